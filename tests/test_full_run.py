"""`make paper` from end to end: archives, corpora, training, export, scores, notebooks; what is real but tiny.

The archives have the layout of FMA and NSynth and are made here, training stops after two steps, and the ledger of
claims runs at the smoke profile. Two networks stand for five: one of the paper's, and the hybrid, which takes both
corpora. That a finished run is not repeated is tested in :mod:`test_packaging`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_fma
import test_nsynth

from ctxe_lib.corpus import Corpus
from ctxe_lib.sources import fma, nsynth

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("music-complex", "hybrid")
NOTEBOOK = "12_claims"
OPTIONS = (
    f"FULL_NETWORKS={' '.join(NETWORKS)}",
    f"ONLY={NOTEBOOK}",
    "FULL_PROFILE=smoke",
    "TRAIN=--until 2 --batch 1 --validate-every 1 --validation-segments 2 --no-progress",
)
NOTES = {
    "train": ("bass_synthetic_033-060-100", "bass_synthetic_033-064-025", "guitar_acoustic_010-050-100"),
    "valid": ("flute_acoustic_002-072-127",),
    "test": ("reed_acoustic_001-072-127", "organ_electronic_001-060-100"),
}

TOOLS = {
    "python": """case "$*" in
    "-m pip "*) ;;
    data_scripts/build_data.py*) exec {python} -c '
import runpy, sys
from ctxe_lib import download
download.matches, sys.argv = lambda *_: True, sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@" ;;
    *) exec {python} "$@" ;;
    esac""",
    "ctxe": """if [ "$1" = export ] && [ -e stop ]; then exit 1; fi
    exec {scripts}/ctxe "$@" """,
    "jupyter-book": "mkdir -p book/_build/html; touch book/_build/html/index.html",
}
"""What make calls: the real thing, which takes the archives here for the published ones; an export that fails where
the file ``stop`` is; no book."""


def write_archives(folder: Path) -> None:
    """FMA's archive with 20 clips and NSynth's three with six notes."""
    folder.mkdir(parents=True)
    clips = [(test_fma.name(number), test_fma.mp3(1.2, 200.0 + 30 * number)) for number in range(20)]
    for part, archive in zip(NOTES, nsynth.ARCHIVES, strict=True):
        notes: dict[str, bytes | None] = {note: test_nsynth.wav(pitch=int(note[-7:-4])) for note in NOTES[part]}
        test_nsynth.write(folder / archive, test_nsynth.layout(part, notes, list(notes)))
    test_fma.write(folder / fma.ARCHIVE, clips)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the archives in its cache."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "package.json", "package-lock.json"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("notebooks", "ctxe_lib", "data_scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_archives(tmp_path / ".cache/downloads")
    (tmp_path / "bin").mkdir()
    for name, script in TOOLS.items():
        tool = tmp_path / "bin" / name
        filled = script.format(python=sys.executable, scripts=sysconfig.get_path("scripts"))
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> calls\n{filled}\n')
        tool.chmod(0o755)
    (tmp_path / "book/assets").mkdir(parents=True)
    for ready in (".ready", "book/assets/.ready"):
        (tmp_path / ready).touch()
    return tmp_path


def make(checkout: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run make; what it said, and which commands of ctxe it called."""
    (checkout / "calls").write_text("")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("CTXE_", "MAKE"))}
    variables |= {"CTXE_ROOT": str(checkout), "OMP_NUM_THREADS": "1"}
    command = ["make", "-j2", "-C", str(checkout), "VENV=.", *arguments]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    calls = (checkout / "calls").read_text().splitlines()
    return done, [call.split(maxsplit=1)[1] for call in calls if call.startswith("ctxe")]


def test_full_run_from_archives_to_the_ledger(checkout: Path) -> None:
    (checkout / "stop").touch()
    done, _ = make(checkout, "paper", *OPTIONS, "FULL_NETWORKS=music-complex")
    assert done.returncode != 0 and "step 2" in done.stdout, done.stdout
    for name, segments in (("music-fma", "train"), ("instruments-nsynth", "test")):
        corpus = Corpus.open(checkout / "data" / name)
        assert len(corpus.starts(segments)) and not corpus.description["skipped"]
    assert corpus.description["provenance"]["built"]["files"].keys() == set(nsynth.ARCHIVES)
    assert not (checkout / "results").exists()

    (checkout / "stop").unlink()
    done, calls = make(checkout, "paper", *OPTIONS)
    assert done.returncode == 0, done.stdout
    assert "resuming paper-music-complex at step 2 of 800000" in done.stdout
    assert sorted(call.split()[1] for call in calls if call.startswith("train")) == sorted(
        f"paper-{name}" for name in NETWORKS
    )
    for name in NETWORKS:
        card = json.loads((checkout / f"runs/paper/weights/{name}.json").read_text())
        assert 0 < card["steps"] <= 2 and (checkout / f"runs/paper/weights/{name}.safetensors").exists()
    for name, methods in (("music-fma", {"complex", "hybrid", "lpc"}), ("instruments-nsynth", {"hybrid", "lpc"})):
        scores = pd.read_parquet(checkout / f"results/{name}.parquet")
        assert methods <= set(scores["method"]) and np.isfinite(scores["snr_td"]).all()
        gaps = pd.read_parquet(checkout / f"results/{name}-gaps.parquet")
        assert methods <= set(gaps["method"]) and {48, 64} <= set(gaps["gap_ms"])
        raw = pd.read_parquet(checkout / f"results/{name}-overfit.parquet")
        assert set(raw["method"]) == methods & {"complex"}
    ledger = json.loads((checkout / "results/claims.json").read_text())
    assert ledger["corpora"] == {"music": "music-fma", "instruments": "instruments-nsynth"}
    assert set(ledger["weights"]) == set(NETWORKS)
    assert (checkout / f"book/notebooks/{NOTEBOOK}.ipynb").exists()
    assert (checkout / "book/_build/html/index.html").exists()
