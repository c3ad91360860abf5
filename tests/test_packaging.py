"""pyproject.toml, requirements.lock, environment.yml and the other lists of versions agree."""

from __future__ import annotations

import json
import re
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
