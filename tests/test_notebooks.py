"""The notebook runner, and what every stored notebook must keep to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from ctxe_lib.notebooks import Notebook, load_profile, run

ROOT = Path(__file__).resolve().parent.parent
STORED = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted((ROOT / "notebooks/profiles").glob("*.yaml"))


def write_notebook(path: Path, code: str, needs: tuple[str, ...] = ()) -> Path:
    parameters = nbformat.v4.new_code_cell("count = 2\nname = 'a'", metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["ctxe"] = {"needs": list(needs)}
    nbformat.write(notebook, path)
    return path


def write_profile(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_runs_only_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = tmp_path / "a.txt"
    needed.write_text("1")
    code = "import sys\nprint(name * count)\nprint('on stderr', file=sys.stderr)"
    path = write_notebook(tmp_path / "01_a.ipynb", code, (str(tmp_path / "{name}.txt"),))
    profile = write_profile(tmp_path / "p.yaml", parameters={"count": 3, "other": 1})
    out = tmp_path / "out"

    def said() -> str:
        assert run([path], profile, out) == []
        return capsys.readouterr().out

    assert "01_a: done in" in said()
    assert outputs(out / "01_a.ipynb") == "aaa\n"
    executed = nbformat.read(out / "01_a.ipynb", as_version=4)
    assert "run with the p profile in" in executed.cells[-1].source
    assert [file.name for file in out.iterdir()] == ["01_a.ipynb"]
    assert "01_a: up to date" in said()
    needed.write_text("2")
    assert "01_a: done in" in said()
    write_profile(profile, notebooks={"01_a": {"count": 1}})
    assert "01_a: done in" in said()
    assert outputs(out / "01_a.ipynb") == "a\n"
    write_profile(profile, parameters={"count": 1})
    assert "01_a: up to date" in said()


def test_several_at_once_keep_apart(tmp_path: Path) -> None:
    """Kernels that start together in one folder do not take each other's sockets; those that read results wait."""
    paths = [write_notebook(tmp_path / f"0{n}_a.ipynb", f"print({n})") for n in (1, 2)]
    note = f"open({str(tmp_path / 'note')!r}, "
    paths.append(write_notebook(tmp_path / "03_a.ipynb", f"{note}'w').write('first')", ("{results}/x.txt",)))
    paths.append(write_notebook(tmp_path / "04_a.ipynb", f"print({note}'r').read())", ("{results}/x.txt",)))
    assert run(paths, write_profile(tmp_path / "p.yaml"), tmp_path / "out", jobs=3) == []
    assert [outputs(tmp_path / f"out/0{n}_a.ipynb") for n in (1, 2, 4)] == ["1\n", "2\n", "first\n"]


def test_failure_is_told_and_leaves_the_last_good_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_notebook(tmp_path / "01_a.ipynb", "print('fine')")
    profile = write_profile(tmp_path / "p.yaml")
    assert run([good], profile, tmp_path / "out") == []
    bad = write_notebook(tmp_path / "01_a.ipynb", "raise ValueError('no corpus in data/x: build it first')")
    assert run([bad], profile, tmp_path / "out") == ["01_a"]
    told = capsys.readouterr().err
    assert "01_a: FAILED" in told and "no corpus in data/x: build it first" in told
    assert outputs(tmp_path / "out/01_a.ipynb") == "fine\n"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["01_a.failed.ipynb", "01_a.ipynb"]


def test_only_and_overrides_choose(tmp_path: Path) -> None:
    paths = [write_notebook(tmp_path / f"0{n}_a.ipynb", "print(name * count)") for n in (1, 2)]
    profile = write_profile(tmp_path / "p.yaml", parameters={"name": "b"})
    assert run(paths, profile, tmp_path / "out", only=["02"], overrides={"name": "c"}) == []
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["02_a.ipynb"]
    assert outputs(tmp_path / "out/02_a.ipynb") == "cc\n"
    with pytest.raises(ValueError, match="no notebook '07'; there are 01_a, 02_a"):
        run(paths, profile, tmp_path / "out", only=["07"])
    with pytest.raises(ValueError, match="no notebook has a parameter nmae; there are count, name"):
        run(paths, profile, tmp_path / "out", overrides={"nmae": "c"})


def test_mistakes_in_profiles_and_parameters_are_named(tmp_path: Path) -> None:
    notebook = Notebook.read(write_notebook(tmp_path / "01_a.ipynb", "1"))
    assert notebook.defaults == {"count": 2, "name": "a"}
    with pytest.raises(FileNotFoundError, match=r"no profile 'q'.*there are p"):
        load_profile(write_profile(tmp_path / "p.yaml").with_name("q.yaml"), notebook)
    with pytest.raises(ValueError, match=r"p.yaml: 01_a has no parameter 'cout'; it has count, name"):
        load_profile(write_profile(tmp_path / "p.yaml", notebooks={"01_a": {"cout": 1}}), notebook)
    path = write_notebook(tmp_path / "02_b.ipynb", "1")
    path.write_text(path.read_text().replace("count = 2", "count = 2 ** size"))
    with pytest.raises(ValueError, match="the default of parameter count"):
        Notebook.read(path)


def test_command_reports_mistakes_without_a_traceback() -> None:
    command = [sys.executable, "-m", "ctxe_lib.notebooks", "--profile", "none-such"]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.returncode == 2
    assert "none-such" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_notebook_keeps_to_the_form(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert "widgets" not in notebook.metadata
    (parameters,) = (cell for cell in code if "parameters" in cell.metadata.get("tags", []))
    assert all("  # " in line for line in parameters.source.splitlines()), "each parameter says what it is"
    assert max(len(cell.source.splitlines()) for cell in code) <= 40
    assert prose[0].startswith("# ") and all(f"| **{word}** |" in prose[0] for word in ("Shows", "Needs", "Takes"))
    assert "## What was learnt" in prose[-1] and "**Exercise" in prose[-1]
    solution = notebook.cells[-1].metadata
    assert "hide-cell" in solution.tags and solution.mystnb.code_prompt_show == "Solution", "the solution comes last"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_profiles_fit_the_notebooks(profile: Path) -> None:
    content = yaml.safe_load(profile.read_text())
    notebooks = [Notebook.read(path) for path in STORED]
    assert {name for notebook in notebooks for name in notebook.defaults} >= set(content.get("parameters") or {})
    assert {notebook.name for notebook in notebooks} >= set(content.get("notebooks") or {})
    for notebook in notebooks:
        parameters = load_profile(profile, notebook)
        assert all(file.is_absolute() for file in notebook.inputs(parameters))


def test_book_shows_every_notebook() -> None:
    toc = yaml.safe_load((ROOT / "book/_toc.yml").read_text())
    shown = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert [file for file in shown if file.startswith("notebooks/")] == [f"notebooks/{path.stem}" for path in STORED]


def test_papermill_runs_a_notebook_from_any_folder(tmp_path: Path) -> None:
    """A missing input is told with the command that makes it."""
    papermill = shutil.which("papermill", path=str(Path(sys.executable).parent))
    assert papermill is not None
    command = [papermill, ROOT / "notebooks/02_time_frequency.ipynb", "out.ipynb", "-p", "music", "none-such"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "build_data.py none-such" in done.stderr
