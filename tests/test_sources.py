"""The named sources: their manifests and splits, and music read from packages that the tests make."""

from __future__ import annotations

import io
import json
import lzma
import re
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ctxe_lib.archives import ArchiveError
from ctxe_lib.corpus import SPLITS, Skipped, Track
from ctxe_lib.sources import SOURCES, packages
from ctxe_lib.sources.packages import Package, music_packages, music_splits


def artists() -> dict[str, str]:
    """Artist of each track of the full set."""
    by_name = {package.package: package for package in music_packages()}
    parts = {track: track.partition("/") for track in music_splits()}
    return {track: by_name[name].artist(path)[0] for track, (name, _, path) in parts.items()}


def test_manifest_is_complete() -> None:
    everything = music_packages()
    assert len(everything) == 15 and len(music_packages(quick=True)) == 6
    for package in everything:
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.size > 10**6 and package.licence
        assert package.pool.startswith("pool/main/") and package.package in package.pool
        assert package.version.partition(":")[2] or package.version in package.pool
        assert all(rule["reason"] for rule in package.exclude)
        assert not package.root.startswith("/") and not package.root.endswith("/")


def test_no_address_is_written_down() -> None:
    for entry in packages.manifest("music-packages.json") + packages.manifest("soundfont-packages.json"):
        assert "://" not in json.dumps(entry)


def test_splits_are_70_20_10_by_tracks_and_name_only_tracks_of_packages() -> None:
    splits = music_splits()
    assert len(splits) == 263 and Counter(splits.values()).keys() == set(SPLITS)
    assert sum(len(ids) for ids in packages.manifest("splits-music.json").values()) == len(splits)
    by_name = {package.package: package for package in music_packages()}
    for track in splits:
        name, _, path = track.partition("/")
        assert by_name[name].holds(path + "/song.ogg" if by_name[name].stems else path), track


def test_no_artist_of_the_test_split_is_in_another() -> None:
    splits = music_splits()
    of = {split: {artist for track, artist in artists().items() if splits[track] == split} for split in SPLITS}
    assert not of["test"] & (of["train"] | of["validation"])
    assert of["train"] & of["validation"] == {"Eric Matyas"}


def test_the_quick_set_has_much_of_the_test_split_and_some_of_each() -> None:
    quick = {package.package for package in music_packages(quick=True)}
    of_quick = {track: split for track, split in music_splits().items() if track.partition("/")[0] in quick}
    tested = [track for track, split in of_quick.items() if split == "test"]
    assert len(of_quick) == 40 and len(tested) >= 20
    assert len({track.partition("/")[0] for track in tested}) >= 5
    assert all(list(of_quick.values()).count(split) >= 3 for split in SPLITS)
    assert SOURCES["music-quick"].splits() == of_quick


def test_variants_of_a_track_share_a_split() -> None:
    splits = music_splits()
    assert len({split for track, split in splits.items() if track.startswith("warzone2100-music/")}) == 1


# -- packages that the tests make -----------------------------------------------------------------------------------


def ogg(seed: int, seconds: float = 1.0, rate: int = 44_100, level: float = 0.5) -> bytes:
    file = io.BytesIO()
    samples = level * np.sin(2 * np.pi * (300 + 100 * seed) * np.arange(round(seconds * rate)) / rate)
    soundfile.write(file, samples, rate, format="OGG")
    return file.getvalue()


def deb(path: Path, files: dict[str, bytes]) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    data = lzma.compress(stream.getvalue(), preset=0)
    data += b"\n" * (len(data) % 2)
    header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode()
    path.write_bytes(b"!<arch>\n" + header + data)
    return path


def package(**changes: object) -> Package:
    fields: dict = {
        "package": "game-music",
        "version": "1",
        "pool": "pool/game-music_1_all.deb",
        "size": 1,
        "sha256": "",
    }
    fields |= {
        "licence": "GPL-2.0",
        "copyright": "",
        "root": "usr/share/game",
        "include": ("*.ogg",),
        "group": "nobody",
    }
    return Package(**fields | {"quick": False} | changes)


def read(package: Package, file: Path) -> dict[str, Track | Skipped]:
    return {item.id: item for item in packages.tracks([package], {package.package: file})}


def test_music_is_told_from_everything_else(tmp_path: Path) -> None:
    files = {
        "usr/share/game/b.ogg": ogg(0),
        "usr/share/game/more/a.ogg": ogg(1, rate=22_050),
        "usr/share/game/thunder.ogg": ogg(2),
        "usr/share/game/broken.ogg": b"broken",
        "usr/share/game/click.wav": b"",
        "usr/share/elsewhere/c.ogg": ogg(3),
    }
    rules = ({"match": "more/*", "group": "Somebody", "licence": "CC0"}, {"match": "more/a.ogg", "group": "too late"})
    wanted = package(exclude=({"match": "thunder.ogg", "reason": "no music"},), artists=rules)
    found = read(wanted, deb(tmp_path / "a.deb", files))
    assert list(found) == ["game-music/b.ogg", "game-music/more/a.ogg", "game-music/broken.ogg"]
    first, second, broken = found.values()
    assert isinstance(first, Track) and (first.group, first.licence) == ("nobody", "GPL-2.0")
    assert isinstance(second, Track) and (second.group, second.licence) == ("Somebody", "CC0")
    assert len(first.audio) == len(second.audio) == 16_000 and first.source == "game-music"
    assert isinstance(broken, Skipped) and "no readable audio" in broken.reason


def test_music_in_a_zip_within_the_package(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("music/a.ogg", ogg(0))
        archive.writestr("sound/bang.ogg", ogg(1))
    wanted = package(root="music", archive="usr/share/game/data.pk3")
    file = deb(tmp_path / "a.deb", {"usr/share/game/data.pk3": inner.getvalue()})
    assert list(read(wanted, file)) == ["game-music/a.ogg"]
    with pytest.raises(ArchiveError, match=r"holds no readable usr/share/game/data\.pk3"):
        read(wanted, deb(tmp_path / "b.deb", {"other": b""}))


def test_two_stems_make_a_track(tmp_path: Path) -> None:
    files = {
        "usr/share/game/one/guitar.ogg": ogg(0, seconds=1, level=0.9),
        "usr/share/game/one/song.ogg": ogg(0, seconds=2, rate=22_050, level=0.9),
        "usr/share/game/two/song.ogg": ogg(1),
        "usr/share/game/three/guitar.ogg": ogg(2),
        "usr/share/game/three/song.ogg": b"broken",
    }
    wanted = package(stems=True, include=("*/guitar.ogg", "*/song.ogg"))
    found = read(wanted, deb(tmp_path / "a.deb", files))
    assert list(found) == ["game-music/one", "game-music/two", "game-music/three"]
    one, two, three = found.values()
    assert isinstance(one, Track) and len(one.audio) == 32_000
    assert np.abs(one.audio).max() == pytest.approx(1) and np.abs(one.audio[20_000:]).max() == pytest.approx(
        0.5, abs=0.05
    )
    assert isinstance(two, Skipped) and two.reason == "has 1 of 2 stems"
    assert isinstance(three, Skipped) and "no readable audio" in three.reason


# -- the registry -------------------------------------------------------------------------------------------------


def test_every_name_of_the_makefile_is_a_source() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^(?:MUSIC|INSTRUMENTS)_\w+ := (\S+)", makefile, flags=re.MULTILINE))
    assert named == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_sources_describe_themselves(name: str) -> None:
    source = SOURCES[name]
    assert source.title and source.licence
    assert source.describe() == json.loads(json.dumps(source.describe()))
    assert source.rendered == (name in {"music-rendered", "instruments-quick", "instruments-full"})
    for item in source.downloads():
        assert bool(item.pool) != bool(item.urls) and (item.digest or name == "instruments-nsynth")
        assert item.name in (item.pool or item.urls[0])


def test_the_quick_instruments_and_rendered_music_need_no_download() -> None:
    assert not SOURCES["instruments-quick"].downloads() and not SOURCES["music-rendered"].downloads()


def test_the_bundled_soundfont_gives_notes() -> None:
    first = next(iter(SOURCES["instruments-quick"].tracks({}, 16_000)))
    assert first.source == "timgm6mb" and first.id.startswith("timgm6mb/000-000-")
