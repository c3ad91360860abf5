"""The FMA loader, on a tiny archive of the same layout: MP3 files, compressed once more with BZIP2."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ctxe_lib.corpus import Skipped, Track, build_corpus
from ctxe_lib.geometry import Geometry
from ctxe_lib.sources import fma


def mp3(seconds: float = 1.5, pitch: float = 440.0, level: float = 0.4) -> bytes:
    time = np.arange(round(44_100 * seconds)) / 44_100
    stereo = level * np.sin(2 * np.pi * pitch * time)[:, None] * [1.0, 0.5]
    file = io.BytesIO()
    soundfile.write(file, stereo, 44_100, format="MP3")
    return file.getvalue()


def name(number: int) -> str:
    return f"fma_small/{number // 1000:03d}/{number:06d}.mp3"


def write(archive: Path, members: list[tuple[str, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2) as file:
        warnings.simplefilter("ignore", UserWarning)  # members that occur twice
        for member, content in members:
            file.writestr(member, content)
    return archive


def test_clips_are_decoded_in_order_and_split_by_number(tmp_path: Path) -> None:
    numbers = [2, 5, 10, 140, 141, 1000, 98565, 99134, 155065, 155066]
    members = [(name(number), mp3(pitch=200 + 100 * place)) for place, number in enumerate(numbers)]
    shuffled = [members[place] for place in np.random.default_rng(1).permutation(len(members))]
    others = [("fma_small/", b""), ("fma_small/README.txt", b"about"), ("fma_small/checksums", b"sums")]
    items = list(fma.tracks(write(tmp_path / fma.ARCHIVE, [*others, *shuffled])))
    assert [item.id for item in items] == [re.findall(r"\d{6}", member)[0] for member, _ in shuffled]
    tracks = sorted((item for item in items if isinstance(item, Track)), key=lambda track: track.id)
    assert [track.split for track in tracks] == ["train"] * 7 + ["validation"] * 2 + ["test"]
    for place, track in enumerate(tracks):
        assert track.group == track.id
        assert track.source == "fma_small.zip"
        assert len(track.audio) == pytest.approx(24_000, abs=2_000)
        # Mean of both channels, and the right clip: MP3 keeps level and pitch.
        middle = track.audio[8_000:16_000]
        assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.3, rel=0.1)
        assert np.abs(np.fft.rfft(middle)).argmax() * 2 == pytest.approx(200 + 100 * place, abs=4)


def test_whatever_is_wrong_is_reported_and_left_out(tmp_path: Path) -> None:
    members = [
        (name(2), mp3()),
        (name(98565), b""),
        (name(99134), b"ID3 and then no music"),
        (name(98567), mp3(0.1)),
        (name(108925), mp3(level=0.0)),
        (name(140), mp3(pitch=1000)),
        ("fma_small/../../outside.mp3", mp3()),
        ("/fma_small/000/000003.mp3", mp3()),
        ("fma_small/000/notes.txt", b"?"),
        (name(2), mp3()),
        (name(2), mp3()),
    ]
    archive = write(tmp_path / fma.ARCHIVE, members)
    with zipfile.ZipFile(archive) as file:
        member = file.getinfo(name(140))
        data = member.header_offset + 30 + len(member.filename)
    broken = bytearray(archive.read_bytes())
    broken[data + 50 : data + 80] = bytes(30)
    archive.write_bytes(broken)

    before = sorted(tmp_path.rglob("*"))
    items = list(fma.tracks(archive))
    assert sorted(tmp_path.rglob("*")) == before
    assert len({item.id for item in items}) == len(items)
    corpus = build_corpus("tiny", items, tmp_path / "tiny", Geometry(), provenance={})
    assert corpus.tracks["track"].tolist() == ["000002"]
    reasons = {item["id"]: item["reason"] for item in corpus.description["skipped"]}
    expected = {
        "098565": "is no readable audio",
        "099134": "is no readable audio",
        "098567": "too short",
        "108925": "silent",
        "000140": "cannot be unpacked",
    }
    for number, reason in expected.items():
        assert reason in reasons.pop(number)
    assert [key.rpartition(" (file ")[0] for key in reasons] == [
        "fma_small/../../outside.mp3",
        "/fma_small/000/000003.mp3",
        "fma_small/000/notes.txt",
        name(2),
        name(2),
    ]


def test_unusable_clips_do_not_move_the_others_to_another_split(tmp_path: Path) -> None:
    contents = [mp3(0.5)] * 10
    whole = list(fma.tracks(write(tmp_path / "whole.zip", [(name(i), c) for i, c in enumerate(contents)])))
    contents[3] = b"broken"
    damaged = list(fma.tracks(write(tmp_path / "damaged.zip", [(name(i), c) for i, c in enumerate(contents)])))
    assert isinstance(damaged.pop(3), Skipped)
    del whole[3]
    assert [t.split for t in damaged if isinstance(t, Track)] == [t.split for t in whole if isinstance(t, Track)]


def test_archives_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(write(tmp_path / "a.zip", [(name(2), mp3())]).read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cannot be read.*fetch it again"):
        list(fma.tracks(tmp_path / "cut.zip"))
    with pytest.raises(ValueError, match=r"holds no fma_small"):
        list(fma.tracks(write(tmp_path / "other.zip", [("music/song.mp3", mp3())])))
    with pytest.raises(FileNotFoundError):
        list(fma.tracks(tmp_path / "gone.zip"))
