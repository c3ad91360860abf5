// What widgets in a static page need: where their fonts lie, and the MathJax 2 call that they set formulas with. And a
// box for each figure, in which it scrolls on a phone.

const root = document.documentElement.dataset.content_root;

window.require = {
  paths: { "@jupyter-widgets/html-manager/dist": new URL(`${root}_static/html-manager`, document.baseURI).href },
};

document.addEventListener("DOMContentLoaded", () => {
  if (window.MathJax) {
    window.MathJax.Hub = { Queue: ([, , element]) => window.MathJax.typesetPromise([element]) };
  }
  for (const image of document.querySelectorAll("div.cell_output > img")) {
    const box = Object.assign(document.createElement("div"), { className: "scrolling" });
    image.replaceWith(box);
    box.append(image);
  }
});
