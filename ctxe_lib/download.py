"""Fetching files: resumable, verified, and not at all where the cache has them.

Packages come from a mirror of the Debian archive. Its base address is the one that is given (``--mirror``), or that of
CTXE_DEBIAN_MIRROR, or those that apt knows on this machine, with apt's proxy; where these fail, apt itself is asked.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from ctxe_lib.paths import ROOT

__all__ = ["Download", "DownloadError", "cache_folder", "fetch", "matches", "progress"]

_ATTEMPTS = 5
_TIMEOUT = 30  # seconds without a byte
_SPARE = 64 << 20  # bytes that a download leaves free on the disk
_REPORT = 10  # seconds between two lines of progress where there is no terminal


class DownloadError(RuntimeError):
    """A file could not be fetched, or is not the right one; the message says what to do."""


@dataclass(frozen=True)
class Download:
    """A file to fetch.

    Parameters
    ----------
    name : str
        Its name in the cache.
    urls : tuple of str
        Addresses, tried in this order.
    pool : str
        Path below the base address of a Debian mirror, in place of `urls`.
    package : str
        ``name=version`` of the Debian package, for apt.
    size : int, optional
        Bytes, where known.
    digest : str
        Such as ``sha256:`` followed by hexadecimal digits; empty where the publisher states none.
    """

    name: str
    urls: tuple[str, ...] = ()
    pool: str = ""
    package: str = ""
    size: int | None = None
    digest: str = ""


def cache_folder() -> Path:
    """Downloaded files: ``.cache/downloads``, or what CTXE_CACHE names."""
    return Path(os.environ.get("CTXE_CACHE") or ROOT / ".cache" / "downloads")


def matches(path: Path, download: Download) -> bool:
    """Whether a file has the size and the digest of a download."""
    if download.size not in (None, path.stat().st_size):
        return False
    return not download.digest or _sum(path, download.digest.partition(":")[0]) == download.digest


def fetch(download: Download, *, mirror: str | None = None, cache: Path | None = None) -> Path:
    """Bring a file into the cache; without any request if it is there.

    Parameters
    ----------
    download : Download
        What to fetch.
    mirror : str, optional
        Base address of a Debian mirror.
    cache : Path, optional
        :func:`cache_folder` if not given.

    Returns
    -------
    Path
        The file, verified.

    Raises
    ------
    DownloadError
        If no address gave the right file. What was received of it so far is kept, and continued by the next call.
    """
    path = (cache or cache_folder()) / download.name
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    if path.exists():
        if matches(path, download):
            return path
        failures.append(f"the file in the cache was not the right one and is removed ({_difference(path, download)})")
        path.unlink()
    chosen = mirror or os.environ.get("CTXE_DEBIAN_MIRROR")
    sites = [chosen] if chosen else _apt_sites() if download.pool else []
    urls = [f"{site.rstrip('/')}/{quote(download.pool)}" for site in sites] if download.pool else download.urls
    proxies = _proxies(apt=bool(download.pool) and not chosen)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    for url in urls:
        try:
            _download(opener, url, path, download)
            return path
        except (DownloadError, OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
    if download.package and not chosen and shutil.which("apt-get"):
        try:
            _apt_download(path, download)
            return path
        except (DownloadError, OSError, subprocess.SubprocessError) as error:
            failures.append(f"apt-get download: {error}")
    reasons = "".join(f"\n  {failure}" for failure in failures)
    raise DownloadError(f"{download.name} cannot be fetched{reasons}\n{_remedy(download, bool(sites), path)}")


def _remedy(download: Download, known: bool, path: Path) -> str:
    here = f"put the file into {path.parent} yourself"
    if not download.pool:
        return f"Try again later, or {here}."
    what = "Name another mirror" if known else "No Debian mirror is known on this machine. Name the base address of one"
    return (
        f"{what} with --mirror or in CTXE_DEBIAN_MIRROR (one of past versions, if the mirror has a newer one), {here}, "
        "or take music that needs no mirror: make book DATA=rendered"
    )


# -- one file from one address ------------------------------------------------------------------------------------


def _download(opener: urllib.request.OpenerDirector, url: str, path: Path, download: Download) -> None:
    """Fetch, verify, move to its name; a file that turns out wrong after a continued download is fetched once more."""
    if not url.startswith(("http://", "https://")):
        raise DownloadError("an address must begin with http:// or https://")
    part = path.with_name(path.name + ".part")
    continued = part.exists()
    _receive(opener, url, part, download)
    if continued and not matches(part, download):
        part.unlink()
        _receive(opener, url, part, download)
    _accept(part, path, download)


def _receive(opener: urllib.request.OpenerDirector, url: str, part: Path, download: Download) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            return _transfer(opener, url, part, download)
        except urllib.error.HTTPError as error:
            if error.code not in (408, 425, 429) and error.code < 500:
                raise
            failure: Exception = error
        except (OSError, http.client.HTTPException) as error:
            failure = error
        if attempt < _ATTEMPTS - 1:
            wait = 2**attempt
            _say(f"{download.name}: {failure}; trying again in {wait} s")
            time.sleep(wait)
    raise failure


def _transfer(opener: urllib.request.OpenerDirector, url: str, part: Path, download: Download) -> None:
    """One request for what is missing of a file."""
    have = part.stat().st_size if part.exists() else 0
    if download.size is not None and have >= download.size:
        if have == download.size:
            return
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        part.unlink()  # nothing lies beyond what is here, and it is not known to be whole
        raise OSError("the file at this address is no longer than the part of it that is here") from error
    with response:
        if have and (response.status != 206 or not response.headers["Content-Range"].startswith(f"bytes {have}-")):
            have = 0  # the server sends the whole file
        length = response.headers["Content-Length"]
        total = have + int(length) if length else None
        if download.size is not None and total not in (None, download.size):
            raise DownloadError(f"is a file of {total} bytes, where {download.size} are expected")
        free = shutil.disk_usage(part.parent).free
        if (total or 0) - have > free - _SPARE:
            raise DownloadError(f"needs {(total or 0) - have} bytes, and the disk of {part.parent} has {free} left")
        with part.open("ab" if have else "wb") as file, progress(download.name, total, start=have) as advance:
            while chunk := response.read(1 << 18):
                file.write(chunk)
                advance(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes")


def _accept(part: Path, path: Path, download: Download) -> None:
    if not matches(part, download):
        difference = _difference(part, download)
        part.unlink()
        raise DownloadError(f"is not the right file, and is removed: {difference}")
    part.replace(path)


def _sum(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _difference(path: Path, download: Download) -> str:
    size = path.stat().st_size
    if download.size not in (None, size):
        return f"expected {download.size} bytes, got {size}"
    return f"expected {download.digest}, got {_sum(path, download.digest.partition(':')[0])}"


# -- apt ----------------------------------------------------------------------------------------------------------


def _output(*command: str) -> str:
    """What a command prints, or nothing if there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _apt_sites() -> list[str]:
    """Base addresses of the archives that apt knows here."""
    listed = _output("apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages").split()
    return [site for site in dict.fromkeys(listed) if site.startswith(("http://", "https://"))]


def _proxies(*, apt: bool) -> dict[str, str]:
    """The proxies of the environment, and those of apt for a mirror that apt named."""
    proxies = urllib.request.getproxies()
    if apt:
        asked = ("HTTP", "Acquire::http::Proxy", "HTTPS", "Acquire::https::Proxy")
        settings = dict(word.split("=", 1) for word in shlex.split(_output("apt-config", "shell", *asked)))
        proxies |= {kind.lower(): url for kind, url in settings.items() if url and url != "DIRECT"}
    return proxies


def _apt_download(path: Path, download: Download) -> None:
    """Let apt fetch a package, with lists of its own: this needs no rights, and changes nothing on the machine."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".apt-") as name:
        folder = Path(name)
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        settings = [f"Dir::State::Lists={folder}/lists", f"Dir::Cache={folder}/cache", "APT::Sandbox::User=root"]
        command = ["apt-get", "-qq", *(word for setting in settings for word in ("-o", setting))]
        for arguments in (["update"], ["download", download.package]):
            done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise DownloadError(done.stderr.strip() or f"apt-get {arguments[0]} failed")
        _accept(next(folder.glob("*.deb")), path, download)


# -- progress -----------------------------------------------------------------------------------------------------


class _Lines:
    """Progress as lines of text, for logs."""

    def __init__(self, label: str, total: int | None, start: int, unit: str, scale: float) -> None:
        self._label, self._done, self._total, self._unit, self._scale = label, start, total, unit, scale
        self._digits = 1 if scale > 1 else 0
        self._next = time.monotonic()

    def update(self, count: int, /) -> None:
        self._done += count
        if time.monotonic() >= self._next or self._done == self._total:
            share = f" of {self._total / self._scale:.{self._digits}f}" if self._total else ""
            _say(f"{self._label}: {self._done / self._scale:.{self._digits}f}{share} {self._unit}")
            self._next = time.monotonic() + _REPORT


@contextmanager
def progress(
    label: str, total: int | None, *, start: int = 0, unit: str = "MB", scale: float = 1e6
) -> Iterator[Callable[[int], object]]:
    """Show how far a piece of work is: a bar on a terminal, else a line every ten seconds.

    Parameters
    ----------
    label : str
        What is being done.
    total : int, optional
        Steps in all, where known.
    start : int
        Steps done before.
    unit : str
        Of what is shown.
    scale : float
        Steps for each unit.

    Yields
    ------
    callable
        To be called with the number of further steps.
    """
    if not sys.stderr.isatty():
        yield _Lines(label, total, start, unit, scale).update
        return
    shown = "{l_bar}{bar}| {n:.0f}/{total:.0f} " + unit + " [{elapsed}<{remaining}]"
    whole = total / scale if total else None
    with tqdm(desc=label, initial=start / scale, total=whole, bar_format=shown if total else None, unit=unit) as bar:
        yield lambda count: bar.update(count / scale)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
