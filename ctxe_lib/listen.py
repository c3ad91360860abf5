"""Audio players that live inside a page: no file beside it, no request.

Sounds are FLAC: every sample is kept, and every browser of the last years plays it. A page needs no script to play
one (:func:`player`); :func:`compare` adds one that puts several sounds into a single player.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping

import numpy as np
import soundfile
from IPython.display import HTML

from ctxe_lib.audio import to_int16

__all__ = ["compare", "comparison", "flac", "player", "players", "script"]


def flac(audio: np.ndarray, sample_rate: int) -> bytes:
    """A mono FLAC file of 16-bit samples.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,)]
        Full scale 1; what lies beyond is clipped.
    sample_rate : int
        In Hz.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If the audio is not one channel, is empty, or holds values that are not finite.
    """
    if np.ndim(audio) != 1:
        raise ValueError(f"audio of shape {np.shape(audio)} must be one channel")
    samples, _ = to_int16(np.asarray(audio, dtype=np.float64))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


def player(audio: np.ndarray, sample_rate: int, label: str) -> str:
    """One labelled player as HTML.

    Parameters
    ----------
    audio : np.ndarray [shape=(samples,)]
        Full scale 1.
    sample_rate : int
        In Hz.
    label : str
        What is heard; shown, and read out by screen readers.

    Returns
    -------
    str
        A ``figure`` element that holds the audio itself.
    """
    source = "data:audio/flac;base64," + base64.b64encode(flac(audio, sample_rate)).decode("ascii")
    text = html.escape(label)
    return (
        f'<figure class="player"><figcaption>{text}</figcaption>'
        f'<audio controls preload="metadata" aria-label="{text}" src="{source}"></audio></figure>'
    )


def players(sounds: Mapping[str, np.ndarray], sample_rate: int) -> HTML:
    """Players side by side, as the result of a notebook's cell.

    Parameters
    ----------
    sounds : mapping of str to np.ndarray [shape=(samples,)]
        Audio by label, full scale 1.
    sample_rate : int
        In Hz.

    Returns
    -------
    IPython.display.HTML
    """
    figures = "".join(player(audio, sample_rate, label) for label, audio in sounds.items())
    return HTML(f'<div class="players">{figures}</div>')


def comparison(sounds: Mapping[str, np.ndarray], sample_rate: int, group: str = "") -> str:
    """One player for several sounds, as HTML that :func:`script` brings to life.

    Without the script, or before it has run, the sounds have a player each.

    Parameters
    ----------
    sounds : mapping of str to np.ndarray [shape=(samples,)]
        Audio by label, full scale 1; the first is heard first.
    sample_rate : int
        In Hz.
    group : str
        Players of one name that replace one another in a page go on where the one before was.

    Returns
    -------
    str
    """
    figures = "".join(player(audio, sample_rate, label) for label, audio in sounds.items())
    return f'<ctxe-compare class="players" group="{html.escape(group)}">{figures}</ctxe-compare>'


def script() -> HTML:
    """What brings the players of :func:`comparison` to life, once on a page."""
    return HTML(f"<script>{_SCRIPT}</script>")


def compare(sounds: Mapping[str, np.ndarray], sample_rate: int) -> HTML:
    """One player that switches between sounds and keeps the position, as the result of a notebook's cell.

    Buttons, arrow keys or the digits choose what is heard.

    Parameters
    ----------
    sounds : mapping of str to np.ndarray [shape=(samples,)]
        Audio by label, full scale 1; of one length, or the position is lost where one is shorter.
    sample_rate : int
        In Hz.

    Returns
    -------
    IPython.display.HTML
    """
    return HTML(comparison(sounds, sample_rate) + script().data)


_SCRIPT = """
if (!customElements.get("ctxe-compare")) {
  const groups = new Map();
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  // One sound at a time, whichever player it comes from. Events come late: what began may have ended since.
  document.addEventListener("play", event => {
    if (event.target.paused) return;
    for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
  }, true);
  document.head.append(make("style", { textContent: `
    ctxe-compare { display: block }
    ctxe-compare .controls { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .6rem; margin: .4rem 0 }
    ctxe-compare button, ctxe-compare .choice span { font: inherit; font-size: .9rem; line-height: 1.5; color: inherit;
      background: none; border: 1px solid currentColor; border-radius: .4rem; padding: .1rem .7rem; cursor: pointer }
    ctxe-compare button { min-width: 5.2rem }
    ctxe-compare label { margin: 0; font-size: .9rem }
    ctxe-compare .seek { flex: 1 1 8rem; min-width: 6rem; max-width: 26rem; accent-color: #0072B2 }
    ctxe-compare .choice { position: relative; display: inline-flex }
    ctxe-compare .choice input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer }
    ctxe-compare .choice input:checked + span { background: #0072B2; border-color: #0072B2; color: white }
    ctxe-compare .choice input:focus-visible + span, ctxe-compare button:focus-visible {
      outline: 2px solid #E69F00; outline-offset: 2px }` }));
  let count = 0;
  customElements.define("ctxe-compare", class extends HTMLElement {
    connectedCallback() {
      // While the page is being read, what belongs into this element may not be there yet.
      if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => this.build());
      else this.build();
    }
    build() {
      this.sounds = [...this.querySelectorAll("audio")];
      if (this.seek || !this.sounds.length) return;
      const names = this.sounds.map(audio => audio.getAttribute("aria-label"));
      const group = this.getAttribute("group");
      this.state = groups.get(group) ?? { time: 0, playing: false, name: names[0], repeat: true };
      if (group) groups.set(group, this.state);
      this.classList.remove("players");
      for (const figure of this.querySelectorAll("figure")) figure.hidden = true;
      this.button = make("button", { type: "button", onclick: () => this.play(this.current.paused) });
      this.seek = make("input", { type: "range", className: "seek", min: 0, max: 1, step: "any", value: 0 });
      this.seek.setAttribute("aria-label", "Position");
      this.seek.oninput = () => { this.state.time = this.current.currentTime = +this.seek.value; };
      const repeat = make("input", { type: "checkbox", checked: this.state.repeat });
      repeat.onchange = () => {
        this.state.repeat = repeat.checked;
        for (const audio of this.sounds) audio.loop = repeat.checked;
      };
      const id = `ctxe-compare-${count++}`;
      this.radios = names.map((name, i) => make("input", {
        type: "radio", name: id, value: name, onchange: () => this.choose(i) }));
      const choices = make("div", { className: "controls" }, ...this.radios.map((radio, i) =>
        make("label", { className: "choice" }, radio, make("span", { textContent: names[i] }))));
      choices.setAttribute("role", "radiogroup");
      choices.setAttribute("aria-label", "What is heard");
      this.append(make("div", { className: "controls" }, this.button, this.seek,
        make("label", {}, repeat, " repeat")), choices);
      this.onkeydown = event => {
        const radio = event.ctrlKey || event.altKey || event.metaKey ? null : this.radios[event.key - 1];
        if (radio) { radio.focus(); radio.click(); }
      };
      for (const audio of this.sounds) {
        audio.loop = this.state.repeat;
        audio.onplay = audio.onloadedmetadata = () => this.show();
        audio.onpause = () => {
          if (audio === this.current && audio.paused && this.isConnected) this.state.playing = false;
          this.show();
        };
        audio.onended = () => { this.state.time = 0; };
      }
      this.choose(Math.max(names.indexOf(this.state.name), 0));
      if (this.state.playing) this.play(true);
    }
    choose(i) {
      const next = this.sounds[i];
      if (this.current && this.current !== next) {
        if (!this.current.paused) this.state.time = this.current.currentTime;
        next.currentTime = this.state.time;
        if (!this.current.paused) { this.current.pause(); this.start(next); }
      } else next.currentTime = this.state.time;
      this.current = next;
      this.state.name = this.radios[i].value;
      this.radios[i].checked = true;
      this.show();
    }
    play(on) {
      this.state.playing = on;
      if (on) this.start(this.current);
      else this.current.pause();
    }
    start(audio) {
      audio.play().catch(() => { this.state.playing = !this.current.paused; });
    }
    show() {
      const { duration, paused } = this.current;
      this.button.textContent = paused ? "\\u25B6\\uFE0E Play" : "\\u275A\\u275A Pause";
      if (duration) this.seek.max = duration;
      if (!paused) this.state.time = this.current.currentTime;
      this.seek.value = this.state.time;
      cancelAnimationFrame(this.frame);
      if (!paused && this.isConnected) this.frame = requestAnimationFrame(() => this.show());
    }
    disconnectedCallback() { this.current?.pause(); }
  });
}
"""
