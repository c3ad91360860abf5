"""Members of archives, and what hostile or broken archives can do: nothing."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxe_lib import archives
from ctxe_lib.archives import ArchiveError, Member, members

FILES = {
    "usr/share/a.ogg": b"first" * 300,
    "usr/share/deep/er/b.ogg": b"",
    "usr/share/note.txt": bytes(range(256)) * 40,
}


def tar(files: dict[str, bytes], *further: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo("./usr")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in further:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return stream.getvalue()


def deb(data: bytes, name: str = "data.tar.xz") -> bytes:
    """An ar archive with the three members of a Debian package."""
    archive = b"!<arch>\n"
    for member, content in [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (name, data)]:
        archive += f"{member:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


FORMATS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "deb, xz": lambda files: deb(lzma.compress(tar(files))),
    "deb, gzip": lambda files: deb(gzip.compress(tar(files)), "data.tar.gz"),
    "deb, plain": lambda files: deb(tar(files), "data.tar"),
    "tar.gz": lambda files: gzip.compress(tar(files)),
    "tar": tar,
    "zip": zipped,
    "zip, BZIP2": lambda files: zipped(files, zipfile.ZIP_BZIP2),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("as_file", [True, False])
def test_wanted_members_are_read(tmp_path: Path, name: str, as_file: bool) -> None:
    content = FORMATS[name]({f"./{path}" if "zip" not in name else path: data for path, data in FILES.items()})
    (tmp_path / "archive").write_bytes(content)
    source = tmp_path / "archive" if as_file else content
    found = list(members(source, lambda path: path.endswith(".ogg")))
    assert found == [Member(path, data) for path, data in FILES.items() if path.endswith(".ogg")]
    assert list(members(source, lambda path: False)) == []


@pytest.mark.parametrize(
    "name", ["../out.ogg", "/etc/out.ogg", "a/../../out.ogg", "C:\\out.ogg", "..\\out.ogg", "//x/y/z"]
)
@pytest.mark.parametrize("pack", [tar, zipped])
def test_names_that_lead_out_are_refused(name: str, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    bad, good = members(pack({name: b"evil", "good.ogg": b"fine"}), lambda path: True)
    assert bad.content is None and bad.reason == "its name leads out of the archive"
    assert good == Member("good.ogg", b"fine")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_never_followed(kind: bytes) -> None:
    link = tarfile.TarInfo("link.ogg")
    link.type, link.linkname = kind, "/etc/passwd"
    good, bad = members(tar({"a.ogg": b"fine"}, link), lambda path: path.endswith(".ogg"))
    assert good.content == b"fine"
    assert bad.content is None and ("link" in bad.reason or "no plain file" in bad.reason)


def test_a_link_in_a_zip_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("link.ogg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert [*members(stream.getvalue(), lambda path: True)] == [Member("link.ogg", None, "it is a link")]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "tar"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_archives_say_so(name: str, share: float) -> None:
    content = FORMATS[name]({f"{i}.ogg": bytes(range(256)) * 40 for i in range(9)})
    with pytest.raises(ArchiveError, match=r"cannot be read: .*fetch it again"):
        list(members(content[: int(len(content) * share)], lambda path: True))


@pytest.mark.parametrize("name", ["deb, xz", "deb, gzip", "tar.gz"])
def test_flipped_bits_are_noticed(name: str) -> None:
    content = bytearray(FORMATS[name](FILES))
    content[-30] ^= 255
    with pytest.raises(ArchiveError):
        list(members(bytes(content), lambda path: True))


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"!<arch>\n", deb(b"", "other.tar"), b"PK\x03\x04 and nothing"]
)
def test_what_is_no_archive_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.deb").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"odd\.deb cannot be read"):
        list(members(tmp_path / "odd.deb", lambda path: True))


def test_zstd_is_named() -> None:
    with pytest.raises(ArchiveError, match="zstd"):
        list(members(deb(b"\x28\xb5\x2f\xfd and so on", "data.tar.zst"), lambda path: True))


def test_a_missing_archive_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(members(tmp_path / "nowhere.deb", lambda path: True))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_STORED])
def test_a_broken_member_of_a_zip_is_left_out(method: int) -> None:
    files = {f"{i}.ogg": bytes(range(256)) * 40 for i in range(3)}
    content = bytearray(zipped(files, method))
    second = content.index(b"1.ogg")
    content[second + 40] ^= 255
    found = list(members(bytes(content), lambda path: True))
    assert [member.name for member in found] == list(files)
    assert [member.content is None for member in found] == [False, True, False]
    assert found[1].reason.startswith("cannot be unpacked: ")


def test_an_encrypted_member_is_left_out() -> None:
    content = bytearray(zipped({"a.ogg": b"secret", "b.ogg": b"open"}, zipfile.ZIP_STORED))
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    content[6] |= 1
    locked, plain = members(bytes(content), lambda path: True)
    assert locked.content is None and "encrypted" in locked.reason and plain.content == b"open"


def test_large_members_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 1000)
    for content in (tar({"big": bytes(1001), "small": b"fine"}), zipped({"big": bytes(1001), "small": b"fine"})):
        big, small = members(content, lambda path: True)
        assert big.content is None and big.reason == "its 1001 bytes are more than 1000" and small.content == b"fine"


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: deb(lzma.compress(tar({"zeros": bytes(200 << 20)}), preset=0)),
        lambda: zipped({f"zeros {i}": bytes(20 << 20) for i in range(10)}),
    ],
)
def test_bombs_are_stopped(bomb: Callable[[], bytes]) -> None:
    with pytest.raises(ArchiveError, match="unpacks to more than 100 times its size"):
        for member in members(bomb(), lambda path: True):
            assert len(member.content or b"") < 200 << 20


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for pack in FORMATS.values():
        list(members(pack(FILES), lambda path: True))
    assert not list(tmp_path.iterdir())
