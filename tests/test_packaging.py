"""pyproject.toml, requirements.lock, environment.yml and the other lists of versions agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ctxe_lib import cli

ROOT = Path(__file__).resolve().parent.parent


def locked() -> dict[str, list[tuple[str, Marker | None, int]]]:
    """Versions, marker and number of hashes of every package in the lock."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    packages: dict[str, list[tuple[str, Marker | None, int]]] = {}
    for line in filter(lambda line: line and not line.startswith("#"), text.splitlines()):
        requirement = Requirement(re.split(r"\s+--hash", line)[0])
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        entry = (specifier.version, requirement.marker, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)))
        packages.setdefault(canonicalize_name(requirement.name), []).append(entry)
    return packages


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared(project: dict[str, Any]) -> list[Requirement]:
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in project["dependencies"] + extras["book"] + extras["test"]]


def test_every_dependency_is_locked_within_its_range(project: dict[str, Any]) -> None:
    lock = locked()
    assert len(declared(project)) > 30
    for requirement in declared(project):
        versions = [version for version, _, _ in lock[canonicalize_name(requirement.name)]]
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement} is not {versions}"


def test_gpu_extra_asks_for_the_same_tensorflow(project: dict[str, Any]) -> None:
    (gpu,) = map(Requirement, project["optional-dependencies"]["gpu"])
    (cpu,) = (requirement for requirement in declared(project) if requirement.name == "tensorflow")
    assert (gpu.name, gpu.specifier, gpu.extras) == ("tensorflow", cpu.specifier, {"and-cuda"})


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_gets_one_version_with_hashes(project: dict[str, Any], python: str) -> None:
    assert SpecifierSet(project["requires-python"]).contains(f"{python}.1")
    environment = {"python_version": python, "python_full_version": f"{python}.1"}
    for name, entries in locked().items():
        chosen = [entry for entry in entries if entry[1] is None or entry[1].evaluate(environment)]
        assert len(chosen) <= 1, f"{name} is locked at {len(chosen)} versions for Python {python}"
        assert all(hashes for _, _, hashes in entries), f"{name} has no hash"


def test_python_range_is_the_same_everywhere(project: dict[str, Any]) -> None:
    supported = SpecifierSet(project["requires-python"])
    minors = [minor for minor in range(8, 30) if supported.contains(f"3.{minor}.1")]
    names = " ".join(f"python3.{minor}" for minor in minors)
    bounds = f"(3, {minors[0]}) <= sys.version_info[:2] < (3, {minors[-1] + 1})"
    for file in ("Makefile", ".ci/run"):
        text = (ROOT / file).read_text()
        assert names in text and bounds in text, f"{file} looks for other Pythons than {names}"


def test_conda_environment_installs_the_lock(project: dict[str, Any]) -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    (python,) = (line.partition("=")[2] for line in conda if line.startswith("python="))
    assert SpecifierSet(project["requires-python"]).contains(f"{python}.1")
    assert "pip" in conda and pip == {"pip": ["--requirement requirements.lock"]}


def test_node_packages_are_pinned_without_addresses() -> None:
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version
    for name, package in packages.items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name


def test_no_package_index_is_named() -> None:
    pattern = re.compile(r"--(extra-)?index-url|--find-links|registry=|https?://[^/\s]*(pypi|pythonhosted|npmjs)")
    for file in ("requirements.lock", "environment.yml", "pyproject.toml", "Makefile", ".ci/run", "package-lock.json"):
        match = pattern.search((ROOT / file).read_text())
        assert match is None, f"{file}: {match and match.group()}"


def test_citation_names_paper_and_version(project: dict[str, Any]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert Version(citation["version"]) == Version(project["version"])
    assert citation["license"] == project["license"] == "MIT"
    assert citation["preferred-citation"]["doi"] == "10.1109/TASLP.2019.2947232"
    names = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert names == ["Marafioti", "Perraudin", "Holighaus", "Majdak"]


TOOLS = {
    "python": """case "$1 $2" in
    "-m pip") ;;
    "data_scripts/build_data.py "*) mkdir -p "data/$2"; [ -e "data/$2/corpus.json" ] || touch "data/$2/corpus.json" ;;
    esac""",
    "ctxe": """case $1 in
    train) [ ! -e "stop-$2" ] ;;
    export) mkdir -p "$CTXE_WEIGHTS"; touch "$CTXE_WEIGHTS/$3.json" ;;
    *) mkdir -p results; touch "$2" ;;
    esac""",
    "jupyter-book": "mkdir -p book/_build/html; touch book/_build/html/index.html",
}
"""Stand-ins for what make calls: they leave the files that it waits for."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose tools only write down what they were asked for, to `calls`."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "package.json", "package-lock.json"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("notebooks", "ctxe_lib"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    for name, script in TOOLS.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> calls\n{script}\n')
        tool.chmod(0o755)
    (tmp_path / "book/assets").mkdir(parents=True)
    for ready in (".ready", "book/assets/.ready"):
        (tmp_path / ready).touch()
    return tmp_path


def make(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    """Run make; its status and what it called, pip and options apart."""
    (checkout / "calls").write_text("")
    command = ["make", "-C", checkout, "VENV=.", *arguments]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("CTXE_", "MAKE"))}
    status = subprocess.run(command, env=variables, capture_output=True).returncode
    calls = (checkout / "calls").read_text().splitlines()
    return status, [call for call in calls if not call.startswith(("python -m pip", "python data_scripts"))]


def test_full_run_does_every_step_and_goes_on_where_it_stopped(checkout: Path) -> None:
    """`make paper` on stand-ins: stopped in the third training, it does not repeat the first two."""
    (checkout / "stop-paper-instruments-magnitude").touch()
    status, calls = make(checkout, "paper", "TRAIN=--until 5")
    assert status != 0
    trained = [call.split()[2] for call in calls if call.startswith("ctxe train")]
    assert trained == ["paper-music-magnitude", "paper-music-complex", "paper-instruments-magnitude"]
    assert calls[0] == "ctxe train paper-music-magnitude --corpus music-fma --kind magnitude --recipe paper --until 5"
    assert calls[1] == "ctxe export paper-music-magnitude music-magnitude"

    (checkout / "stop-paper-instruments-magnitude").unlink()
    status, calls = make(checkout, "paper")
    assert status == 0
    trained = [call.split()[2] for call in calls if call.startswith("ctxe train")]
    assert trained == ["paper-instruments-magnitude", "paper-instruments-complex", "paper-hybrid"]
    assert {path.stem for path in (checkout / "runs/paper/weights").iterdir()} == {
        f"{kind}-{network}" for kind in ("music", "instruments") for network in ("magnitude", "complex")
    } | {"hybrid"}
    tables = {path.name for path in (checkout / "results").iterdir()}
    names = ("music-fma", "instruments-nsynth")
    assert tables == {f"{name}{what}.parquet" for name in names for what in ("", "-gaps", "-overfit", "-seeds")}
    assert calls[-2] == (
        "python -m ctxe_lib.notebooks --profile paper -p music=music-fma -p instruments=instruments-nsynth"
    )
    assert calls[-1].startswith("jupyter-book build book")

    assert [call for call in make(checkout, "paper")[1] if call.startswith("ctxe")] == []


def test_scores_do_not_depend_on_how_they_are_shown() -> None:
    """What a score is computed by is listed by its absence: a new module counts until Makefile says otherwise."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (listed,) = re.findall(r"^NOT_SCORING := (.*)$", text, re.MULTILINE)
    not_scoring, seen, queue = set(listed.split()), set(), ["evaluation", "experiments"]
    while queue:
        module = queue.pop()
        if module not in seen and (ROOT / f"ctxe_lib/{module}.py").exists():
            seen.add(module)
            source = (ROOT / f"ctxe_lib/{module}.py").read_text()
            queue += re.findall(r"from ctxe_lib\.(\w+) import", source)
            queue += re.split(r",\s*", ", ".join(re.findall(r"from ctxe_lib import ([\w, ]+)", source)))
    assert not seen & not_scoring, "these decide scores"


def test_commands_in_prose_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = {str(command.callback.__name__) for command in cli.app.registered_commands if command.callback}
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("book/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    said = {
        (page.name, *call)
        for page in pages
        for call in re.findall(r"`(?:\.venv/bin/)?(make|ctxe) ([a-z]+)", page.read_text())
    }
    assert len(said) > 20
    for page, tool, name in sorted(said):
        assert name in (targets if tool == "make" else commands), f"{page}: `{tool} {name}` does not exist"
