"""Run the numbered notebooks with papermill, those whose inputs changed.

A notebook declares its inputs in its metadata, as paths with the names of its parameters in braces; `data`,
`results` and `weights` there are the folders of :mod:`ctxe_lib.paths`, and a file's name may be a pattern::

    "ctxe": {"needs": ["{data}/{music}/corpus.json", "{weights}/*.json"]}

It is executed when the notebook itself, its parameters, the library, the locked packages or one of these files
changed. The executed copy, with outputs and a closing line on time, machine and data, is what the book shows.

A profile is a YAML file in ``notebooks/profiles``: ``parameters`` holds values for every notebook that has a
parameter of that name, ``notebooks`` holds values for single notebooks, by name.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import joblib
import nbformat
import papermill
import typer
import yaml
from traitlets.config import Config

from ctxe_lib.paths import ROOT, data_folder, results_folder, weights_folder
from ctxe_lib.provenance import link
from ctxe_lib.quiet import quiet_stderr, without_greeting
from ctxe_lib.records import environment

__all__ = ["Notebook", "load_profile", "run"]

_SHOWN_PACKAGES = ("numpy", "scipy", "tensorflow")


@dataclass(frozen=True)
class Notebook:
    """A notebook and the parameters it runs with.

    Attributes
    ----------
    path : Path
        The stored notebook, without outputs.
    needs : tuple of str
        Paths of its inputs, with names of parameters in braces.
    defaults : dict
        The values in its parameters cell.
    """

    path: Path
    needs: tuple[str, ...]
    defaults: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Read what a notebook declares.

        Raises
        ------
        ValueError
            If a default in its parameters cell is no literal.
        """
        defaults = {}
        for name, parameter in papermill.inspect_notebook(path).items():
            try:
                defaults[name] = ast.literal_eval(parameter["default"])
            except (ValueError, SyntaxError):
                raise ValueError(
                    f"{path.name}: the default of parameter {name}, {parameter['default']}, must be a literal"
                ) from None
        needs = nbformat.read(path, as_version=4).metadata.get("ctxe", {}).get("needs", [])
        return cls(path, tuple(needs), defaults)

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def inputs(self, parameters: dict[str, Any]) -> list[Path]:
        """Files that it reads when run with these parameters."""
        folders = {"data": data_folder(), "results": results_folder(), "weights": weights_folder()}
        paths = [ROOT / need.format(**self.defaults | parameters | folders) for need in self.needs]
        return [
            file for path in paths for file in (sorted(path.parent.glob(path.name)) if "*" in path.name else [path])
        ]

    def digest(self, parameters: dict[str, Any], profile: str) -> str:
        """SHA-256 over everything that its executed copy depends on."""
        files = [self.path, *sorted(Path(__file__).parent.rglob("*.py")), ROOT / "requirements.lock"]
        digest = hashlib.sha256(json.dumps([profile, parameters], sort_keys=True).encode())
        for file in files + self.inputs(parameters):
            digest.update(hashlib.sha256(file.read_bytes()).digest() if file.exists() else b"missing")
        return digest.hexdigest()


def load_profile(path: Path, notebook: Notebook) -> dict[str, Any]:
    """Parameters that a profile sets for a notebook.

    Parameters
    ----------
    path : Path
        The profile's YAML file.
    notebook : Notebook
        The notebook.

    Returns
    -------
    dict
        Values by name.

    Raises
    ------
    FileNotFoundError
        If there is no such profile; the message lists those there are.
    ValueError
        If the profile sets a parameter for this notebook that it does not have.
    """
    if not path.exists():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise FileNotFoundError(f"no profile {path.stem!r} in {path.parent}: there are {there}")
    profile = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    shared = {key: value for key, value in (profile.get("parameters") or {}).items() if key in notebook.defaults}
    own = (profile.get("notebooks") or {}).get(notebook.name) or {}
    _check_known(own, notebook, path.name)
    return shared | own


def _check_known(parameters: dict[str, Any], notebook: Notebook, origin: str) -> None:
    for name in parameters:
        if name not in notebook.defaults:
            known = ", ".join(notebook.defaults) or "none"
            raise ValueError(f"{origin}: {notebook.name} has no parameter {name!r}; it has {known}")


def run(
    notebooks: list[Path],
    profile: Path,
    output_folder: Path,
    *,
    only: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    jobs: int = 1,
) -> list[str]:
    """Execute notebooks whose inputs changed since they were last executed.

    Parameters
    ----------
    notebooks : list of Path
        All stored notebooks, in their order.
    profile : Path
        YAML file with their parameters.
    output_folder : Path
        Where the executed copies go. A notebook that fails leaves the copy of its last good run alone and puts a
        ``.failed.ipynb`` beside it.
    only : list of str, optional
        Names or numbers of the notebooks to run; all if not given.
    overrides : dict, optional
        Values that go before the profile's, each for the notebooks that have a parameter of that name.
    jobs : int
        How many to run at a time.

    Returns
    -------
    list of str
        Names of the notebooks that failed, after printing their errors.

    Raises
    ------
    ValueError
        If there is no such notebook, or none has one of the overridden parameters.
    """
    overrides, only = overrides or {}, only or []
    for name in only:
        if not any(name in (path.stem, path.stem[:2]) for path in notebooks):
            raise ValueError(f"no notebook {name!r}; there are {', '.join(path.stem for path in notebooks)}")
    read = [Notebook.read(path) for path in notebooks]
    if unknown := set(overrides).difference(*(notebook.defaults for notebook in read)):
        known = ", ".join(sorted(set().union(*(notebook.defaults for notebook in read)))) or "none"
        raise ValueError(f"no notebook has a parameter {', '.join(sorted(unknown))}; there are {known}")
    output_folder.mkdir(parents=True, exist_ok=True)
    chosen = []
    for notebook in read:
        if not only or notebook.name in only or notebook.name[:2] in only:
            own = {name: value for name, value in overrides.items() if name in notebook.defaults}
            wanted = load_profile(profile, notebook) | own
            parameters = {name: value for name, value in wanted.items() if value != notebook.defaults[name]}
            chosen.append((notebook, parameters))
    # Those that read results may write some for the next: they keep their order. The others wait for none.
    ordered = [task for task in chosen if any("{results}" in need for need in task[0].needs)]
    lanes = [ordered, *([task] for task in chosen if task not in ordered)] if jobs > 1 else [chosen]
    calls = [joblib.delayed(_run)(lane, profile.stem, output_folder) for lane in lanes if lane]
    return sorted(chain.from_iterable(joblib.Parallel(min(jobs, len(calls)) or 1, batch_size=1)(calls)))


def _run(tasks: list[tuple[Notebook, dict[str, Any]]], profile: str, output_folder: Path) -> list[str]:
    """Execute notebooks with their parameters, one after another, and name those that failed."""
    failed = []
    for notebook, parameters in tasks:
        output = output_folder / notebook.path.name
        digest = notebook.digest(parameters, profile)
        if output.exists() and nbformat.read(output, as_version=4).metadata.get("ctxe", {}).get("inputs") == digest:
            print(f"{notebook.name}: up to date", flush=True)
            continue
        print(f"{notebook.name}: running", flush=True)
        started = time.perf_counter()
        try:
            _execute(notebook, parameters, output, digest, profile)
        except (papermill.PapermillExecutionError, RuntimeError) as error:  # the latter from a kernel that died
            failed.append(notebook.name)
            print(f"{notebook.name}: FAILED after {time.perf_counter() - started:.0f} s\n{error}", file=sys.stderr)
        else:
            print(f"{notebook.name}: done in {time.perf_counter() - started:.0f} s", flush=True)
    return failed


def _execute(notebook: Notebook, parameters: dict[str, Any], output: Path, digest: str, profile: str) -> None:
    running = output.with_name(f".{notebook.name}.running-{os.getpid()}.ipynb")
    started = time.perf_counter()
    failure = output.with_name(f"{notebook.name}.failed.ipynb")
    try:
        # Neither a network nor loopback, and sockets of its own: by default, all kernels of a folder share their names.
        with quiet_stderr(), tempfile.TemporaryDirectory(prefix="ctxe-") as sockets:
            papermill.execute_notebook(
                notebook.path,
                running,
                parameters,
                progress_bar=False,
                kernel_name="python3",
                start_timeout=300,
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # its start and stop are no news
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
            )
        seconds = time.perf_counter() - started
        executed = nbformat.read(running, as_version=4)
        _drop_stderr(executed)
        executed.metadata.setdefault("ctxe", {})["inputs"] = digest
        closing = nbformat.v4.new_markdown_cell(_closing_line(notebook, parameters, profile, seconds))
        executed.cells.append(closing)
        nbformat.write(executed, running)
        running.replace(output)
        failure.unlink(missing_ok=True)
    finally:
        if running.exists():
            running.replace(failure)


def _drop_stderr(notebook: nbformat.NotebookNode) -> None:
    """Move what cells wrote to standard error from the page to the terminal."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.get("name") == "stderr":
                    print(without_greeting(output.text), end="", file=sys.stderr)
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def _data_of(file: Path) -> str:
    """Which corpus an input is or was computed from, with a link to its record; nothing for other inputs."""
    if file.name == "corpus.json":
        corpus = json.loads(file.read_text("utf-8"))
        return f"{link('data', corpus['name'])} `{corpus['fingerprint'][:12]}`"
    if file.suffix == ".parquet":
        record = json.loads(file.with_suffix(".json").read_text("utf-8"))
        group = "weights" if file.parent == weights_folder() else "results"
        return f"{link(group, file.name)} from {record['corpus']} `{record['data'][:12]}`"
    return ""


def _closing_line(notebook: Notebook, parameters: dict[str, Any], profile: str, seconds: float) -> str:
    data = ", ".join(dict.fromkeys(filter(None, map(_data_of, notebook.inputs(parameters))))) or "none"
    made = environment()
    versions = ", ".join(f"{name} {made['versions'][name]}" for name in _SHOWN_PACKAGES)
    hardware = f"{made['cores']} cores of {made['processor']} with {made['memory_gib']:.0f} GiB"
    return (
        f"---\n*{link('notebooks', notebook.path.name)}, run with the {profile} profile in {seconds:.0f} s on "
        f"{hardware}. Data: {data}. Commit `{(made['commit'] or 'unknown')[:12]}`; "
        f"Python {made['python']}, {versions}.*"
    )


def main(
    profile: Annotated[str, typer.Option(help="A file in notebooks/profiles, without .yaml.")] = "quick",
    only: Annotated[list[str] | None, typer.Option(help="Run only this one, by number or name; repeatable.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="name=value, before the profile's; repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the executed notebooks.")] = Path("book/notebooks"),
    jobs: Annotated[int, typer.Option(min=1, help="How many to run at a time.")] = min(2, joblib.cpu_count()),
) -> None:
    """Execute the notebooks whose inputs changed."""
    folder = ROOT / "notebooks"
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    overrides = {}
    for pair in parameter or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} must be name=value")
        overrides[name] = yaml.safe_load(value)
    try:
        profile_file = folder / "profiles" / f"{profile}.yaml"
        failed = run(paths, profile_file, ROOT / output, only=only, overrides=overrides, jobs=jobs)
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
