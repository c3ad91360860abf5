"""A folder of audio files becomes a corpus, whatever else lies in it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner, Result

from ctxe_lib.corpus import SPLITS, Corpus, Skipped, Track
from ctxe_lib.geometry import Geometry
from ctxe_lib.sources import build, folder, folder_source, is_current


def sound(seed: int, seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (round(seconds * rate), channels))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Good files of several kinds in subfolders, and one of each kind of trouble."""
    root = tmp_path / "music"
    (root / "B side").mkdir(parents=True)
    (root / "a").mkdir()
    soundfile.write(root / "a" / "mono.wav", sound(1), 16_000)
    soundfile.write(root / "a" / "stereo.FLAC", sound(2, rate=44_100, channels=2), 44_100, format="FLAC")
    soundfile.write(root / "B side" / "six channels.wav", sound(3, rate=48_000, channels=6), 48_000)
    soundfile.write(root / "B side" / "old.aiff", sound(4, rate=8_000), 8_000)
    soundfile.write(root / "vorbis.ogg", sound(5, rate=22_050), 22_050)
    soundfile.write(root / "layer 3.mp3", sound(6, 2, 44_100, 2), 44_100)
    soundfile.write(root / "loud.wav", 5 * sound(7), 16_000, subtype="FLOAT")

    nan = sound(8)
    nan[50] = np.nan
    soundfile.write(root / "nan.wav", nan, 16_000, subtype="FLOAT")
    soundfile.write(root / "silent.wav", np.zeros(16_000), 16_000)
    soundfile.write(root / "short.wav", sound(9, 0.2), 16_000)
    soundfile.write(root / "empty.wav", np.zeros(0), 16_000)
    (root / "text.wav").write_text("this is no audio")
    (root / "nothing.mp3").write_bytes(b"")
    whole = (root / "a" / "stereo.FLAC").read_bytes()
    (root / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (root / "apple.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (root / "gone.wav").symlink_to(root / "nowhere.wav")

    (root / "cover.jpg").write_bytes(b"no audio, and not meant to be")
    (root / "folder.wav").mkdir()
    return root


GOOD = {
    "a/mono.wav",
    "a/stereo.FLAC",
    "B side/six channels.wav",
    "B side/old.aiff",
    "vorbis.ogg",
    "layer 3.mp3",
    "loud.wav",
}
BAD = {
    "nan.wav": "NaN or infinite",
    "silent.wav": "silent",
    "short.wav": "too short",
    "empty.wav": "no samples",
    "text.wav": "no readable audio",
    "nothing.mp3": "no readable audio",
    "cut.flac": "",
    "apple.m4a": ".m4a is no format",
    "gone.wav": "no readable audio",
}


def test_every_file_is_a_track_or_reported(music: Path, tmp_path: Path) -> None:
    corpus = build("mine", folder_source(music), tmp_path / "data" / "mine", Geometry())
    reasons = {skip["id"]: skip["reason"] for skip in corpus.description["skipped"]}
    assert set(corpus.tracks["track"]) == GOOD
    assert reasons.keys() == BAD.keys()
    for name, reason in BAD.items():
        assert reasons[name] and reason in reasons[name], name
    assert set(corpus.tracks["split"]) == set(SPLITS)
    lengths = corpus.tracks.set_index("track")["samples"] / 16_000
    assert lengths.drop("layer 3.mp3").between(0.96, 1.0).all() and 1.9 < lengths["layer 3.mp3"] < 2.1
    clipped = corpus.tracks.set_index("track")["clipped"]
    assert clipped["loud.wav"] > 1000 and clipped["a/mono.wav"] == 0
    assert not corpus.description["rendered"]


def test_order_and_content_do_not_depend_on_workers(music: Path, tmp_path: Path) -> None:
    def names(workers: int) -> list[str]:
        return [item.id for item in folder.tracks(music, workers=workers)]

    assert names(1) == names(3) == sorted(names(1), key=lambda name: Path(name).parts)
    first = build("a", folder_source(music), tmp_path / "a", Geometry())
    assert build("b", folder_source(music), tmp_path / "b", Geometry()).fingerprint == first.fingerprint


def test_a_track_stays_in_its_split_when_others_come(tmp_path: Path) -> None:
    root = tmp_path / "music"
    root.mkdir()
    for i in range(12):
        soundfile.write(root / f"{i}.wav", sound(i, 0.5), 16_000)
    before = build("x", folder_source(root), tmp_path / "x", Geometry()).tracks.set_index("track")["split"]
    for i in range(12, 16):
        soundfile.write(root / f"{i}.wav", sound(i, 0.5), 16_000)
    after = build("x", folder_source(root), tmp_path / "x", Geometry()).tracks.set_index("track")["split"]
    assert (after[before.index] == before).all()


def test_a_changed_folder_is_noticed(music: Path, tmp_path: Path) -> None:
    source, target = folder_source(music), tmp_path / "mine"
    assert not is_current(source, target, Geometry())
    build("mine", source, target, Geometry())
    assert is_current(source, target, Geometry())
    assert not is_current(source, target, Geometry(gap=512))
    assert not is_current(folder_source(music / "a"), target, Geometry())
    os.utime(music / "vorbis.ogg", (1, 1))
    assert not is_current(source, target, Geometry())


@pytest.mark.parametrize(("path", "reason"), [("nowhere", "is no folder"), ("bare", "holds no audio file")])
def test_a_folder_without_audio_says_so(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "readme.txt").write_text("nothing to hear")
    with pytest.raises(ValueError, match=reason):
        list(folder.tracks(tmp_path / path))


def test_names_that_are_no_utf_8_are_written_out(tmp_path: Path) -> None:
    try:
        soundfile.write(file := tmp_path / "song.wav", sound(1), 16_000)
        os.rename(file, os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav"))  # noqa: PTH104, PTH118
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    [item] = folder.tracks(tmp_path)
    assert isinstance(item, Track | Skipped) and item.id == "caf\\xe9.wav"


# -- the script ---------------------------------------------------------------------------------------------------


def script(name: str) -> ModuleType:
    path = Path(__file__).parent.parent / "data_scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(script(name).main)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_the_script_builds_reports_and_skips_what_is_current(music: Path, tmp_path: Path) -> None:
    arguments = ["--source", "folder", "--path", music, "--data-folder", tmp_path / "data"]
    first = run("build_data", *arguments)
    assert first.exit_code == 0
    corpus = Corpus.open(tmp_path / "data" / "folder-music")
    for text in ("9 files left out", "apple.m4a", "libsndfile", "validation", f"{len(corpus.starts('train')):,}"):
        assert text in first.output
    made = (corpus.folder / "corpus.json").stat().st_mtime_ns
    second = run("build_data", *arguments)
    assert second.exit_code == 0 and "is up to date" in second.output
    assert (corpus.folder / "corpus.json").stat().st_mtime_ns == made
    assert run("build_data", *arguments, "--force").exit_code == 0
    assert (corpus.folder / "corpus.json").stat().st_mtime_ns > made
    assert run("build_data", *arguments, "--name", "mine").exit_code == 0
    assert Corpus.open(tmp_path / "data" / "mine").fingerprint == corpus.fingerprint


def test_the_script_fails_where_nothing_is_usable(tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no audio")
    result = run("build_data", "--source", "folder", "--path", tmp_path, "--data-folder", tmp_path / "data")
    assert result.exit_code == 1 and "no usable track among 1 files" in result.output
    assert "broken.wav: is no readable audio" in result.output
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a SET"),
        (["nothing-known"], "must be among music-quick"),
        (["--source", "folder"], "--path DIR"),
        (["--source", "elsewhere", "--path", "."], "--source folder"),
        (["--source", "folder", "--path", ".", "--name", "../out"], "must be letters"),
        (["--source", "folder", "--path", ".", "--name", "music-full"], "no set's own name"),
    ],
)
def test_the_script_says_how_it_is_called(arguments: list[str], message: str) -> None:
    result = run("build_data", *arguments)
    assert result.exit_code == 2 and message in " ".join(result.output.replace("│", " ").split())


def test_fetching_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXE_CACHE", str(tmp_path))
    result = run("fetch_data", "music-quick", "--mirror", "ftp://nowhere")
    assert result.exit_code == 1
    for text in (
        "fretsonfire-songs-muldjord_2.dfsg-2.1_all.deb cannot be fetched",
        "CTXE_DEBIAN_MIRROR",
        "DATA=rendered",
    ):
        assert text in " ".join(result.output.split())
    assert run("fetch_data", "music-rendered").exit_code == 0
    assert run("fetch_data", "nothing-known").exit_code == 2
