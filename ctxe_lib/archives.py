"""Members of archives, read in memory: .deb, .tar with any compression, .zip and .pk3.

Nothing is unpacked to disk, so no archive can write anywhere: not outside a folder, not through a link. What remains
is bounded: the size of a member, and the ratio of what comes out to what went in.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import IO, cast

__all__ = ["ArchiveError", "Member", "members"]

MEMBER_LIMIT = 1 << 29
"""Bytes of the largest member that is read."""

RATIO_LIMIT = 100
"""Times its own size (and 64 MiB) that an archive may unpack to."""

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)
_UNREADABLE = (*_BROKEN, NotImplementedError, RuntimeError)  # zipfile's, for unknown methods and encryption


class ArchiveError(ValueError):
    """An archive is truncated, damaged, of another format, or unpacks to more than it may."""


@dataclass(frozen=True)
class Member:
    """A member of an archive: its name, and its content or the reason why there is none."""

    name: str
    content: bytes | None
    reason: str = ""


def members(archive: Path | bytes, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Read members of an archive.

    Parameters
    ----------
    archive : Path or bytes
        A file, or the content of one. The format is taken from its first bytes.
    wanted : callable
        Told a member's name, such as ``usr/share/song.ogg``, says whether to read it.

    Yields
    ------
    Member
        In the archive's order. A wanted member that is broken, a link, too large or badly named comes without
        content and with the reason.

    Raises
    ------
    ArchiveError
        If the archive as a whole cannot be read to its end.
    """
    label = str(archive) if isinstance(archive, Path) else "an archive within an archive"
    try:
        with archive.open("rb") if isinstance(archive, Path) else io.BytesIO(archive) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            magic = file.read(8)
            file.seek(0)
            budget = _Budget(RATIO_LIMIT * size + (1 << 26))
            if magic.startswith(b"PK"):
                yield from _zip_members(file, wanted, budget)
            else:
                data = _deb_data(file, size) if magic == b"!<arch>\n" else file
                yield from _tar_members(data, wanted, budget)
    except FileNotFoundError:
        raise
    except _BROKEN as error:
        raise ArchiveError(f"{label} cannot be read: {error or type(error).__name__}; fetch it again") from error


class _Budget:
    """Bytes that may still be unpacked."""

    def __init__(self, left: int) -> None:
        self._left = left

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ArchiveError(f"it unpacks to more than {RATIO_LIMIT} times its size")


class _Counted(io.RawIOBase):
    """A stream that spends a budget as it is read."""

    def __init__(self, stream: IO[bytes], budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._budget.spend(len(data))
        return data


def _refusal(name: str, size: int) -> str:
    """Why a member is not read, or nothing."""
    path = PureWindowsPath(name)  # knows drives, and both kinds of slash
    if path.anchor or ".." in path.parts:
        return "its name leads out of the archive"
    return f"its {size} bytes are more than {MEMBER_LIMIT}" if size > MEMBER_LIMIT else ""


def _zip_members(file: IO[bytes], wanted: Callable[[str], bool], budget: _Budget) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if info.is_dir() or not wanted(info.filename):
                continue
            reason = _refusal(info.filename, info.file_size)
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                reason = "it is a link"
            content = None
            if not reason:
                budget.spend(info.file_size)  # zipfile reads no more than this, whatever the member holds
                try:
                    content = archive.read(info)
                except _UNREADABLE as error:
                    reason = f"cannot be unpacked: {error or type(error).__name__}"
            yield Member(info.filename, content, reason)


def _tar_members(file: IO[bytes], wanted: Callable[[str], bool], budget: _Budget) -> Iterator[Member]:
    with _decompressed(file) as stream:
        counted = cast(IO[bytes], _Counted(stream, budget))
        with tarfile.open(fileobj=counted, mode="r|") as archive:
            for info in archive:
                name = info.name.removeprefix("./")
                if info.isdir() or not wanted(name):
                    continue
                reason = _refusal(name, info.size)
                if not info.isfile():
                    reason = "it is a link" if info.issym() or info.islnk() else "it is no plain file"
                data = None if reason else archive.extractfile(info)
                yield Member(name, data.read() if data else None, reason)
        while counted.read(1 << 20):
            pass  # to the end, where the checksum is


class _Slice(io.RawIOBase):
    """Part of a file, from where it stands."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._start = file.tell()
        self._stop = self._start + size

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell() - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(self._start + offset) - self._start

    def read(self, size: int = -1) -> bytes:
        left = self._stop - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))


def _deb_data(file: IO[bytes], size: int) -> IO[bytes]:
    """The data.tar within a .deb: an ar archive, each member with a header of 60 bytes, padded to an even offset."""
    file.seek(8)
    while len(header := file.read(60)) == 60 and header.endswith(b"`\n"):
        length = int(header[48:58])
        if file.tell() + length > size:
            raise ArchiveError(f"it ends after {size} bytes, within a member that needs {file.tell() + length}")
        if header.startswith(b"data.tar"):
            return cast(IO[bytes], _Slice(file, length))
        file.seek(length + length % 2, io.SEEK_CUR)
    raise ArchiveError("it is no Debian package: it holds no data.tar")


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """A stream's content, by the compression that its first bytes tell."""
    start = file.tell()
    magic = file.read(6)
    file.seek(start)
    if magic == b"\xfd7zXZ\0":
        return cast(IO[bytes], lzma.open(file))
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(file))
    if magic.startswith(b"BZh"):
        return cast(IO[bytes], bz2.open(file))
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise ArchiveError("it is compressed with zstd, which Python's standard library does not read before 3.14")
    return file
