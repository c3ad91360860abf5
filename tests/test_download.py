"""Downloads from a server on this machine: interrupted, continued, wrong, and none at all."""

from __future__ import annotations

import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctxe_lib import download
from ctxe_lib.download import Download, DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(700_001)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT at every path, with the faults that a test asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.content = CONTENT
        self.break_after: list[int] = []  # bytes after which the next answers end
        self.errors: list[int] = []  # status of the next answers
        self.ranges = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some tests are about: no traceback."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"] or ""
        self.server.requests.append(f"{self.path} {asked}".strip())
        content = self.server.content
        if self.server.errors:
            self.send_error(self.server.errors.pop(0))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if asked and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked and self.server.ranges else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if asked and self.server.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        stop = start + self.server.break_after.pop(0) if self.server.break_after else len(content)
        self.wfile.write(content[start:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts, no proxy, and no mirror but the one that a test names."""
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("CTXE_DEBIAN_MIRROR", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "_apt_sites", list)
    monkeypatch.setattr(download.shutil, "which", lambda name: None)


def wanted(server: Server, **changes: object) -> Download:
    fields: dict = {"name": "a.deb", "urls": (f"{server.url}/a.deb",), "size": len(CONTENT), "digest": SHA256}
    return Download(**fields | changes)


def test_a_file_is_fetched_once_and_never_asked_for_again(server: Server, tmp_path: Path) -> None:
    for _ in range(3):
        assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT
    assert server.requests == ["/a.deb"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.deb"]


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.break_after = [300_000, 100_000]
    assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT
    assert server.requests == ["/a.deb", "/a.deb bytes=300000-", "/a.deb bytes=400000-"]


def test_a_later_call_goes_on_too(server: Server, tmp_path: Path) -> None:
    server.break_after = [1000] * download._ATTEMPTS
    with pytest.raises(DownloadError, match="the connection ended after 5000 of 700001 bytes"):
        fetch(wanted(server), cache=tmp_path)
    assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == "/a.deb bytes=5000-"


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.break_after = False, [300_000]
    assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT


def test_a_wrong_part_is_not_continued_for_ever(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.deb.part").write_bytes(bytes(1000))
    assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT
    (tmp_path / "b.deb.part").write_bytes(bytes(len(CONTENT) + 1))
    assert fetch(wanted(server, name="b.deb"), cache=tmp_path).read_bytes() == CONTENT


def test_without_known_size_a_whole_part_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.deb.part").write_bytes(CONTENT)
    assert fetch(wanted(server, size=None, digest=""), cache=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("digest", [SHA256, "sha1:" + hashlib.sha1(CONTENT).hexdigest()])
def test_a_wrong_file_is_removed_and_named(server: Server, tmp_path: Path, digest: str) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(DownloadError) as raised:
        fetch(wanted(server, digest=digest), cache=tmp_path)
    kind = digest.partition(":")[0]
    got = hashlib.new(kind, server.content).hexdigest()
    for part in ("a.deb cannot be fetched", server.url, "removed", f"expected {digest}", f"got {kind}:{got}"):
        assert part in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_file_of_the_wrong_size_is_not_even_received(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is a file of 700001 bytes, where 700002 are expected"):
        fetch(wanted(server, size=len(CONTENT) + 1), cache=tmp_path)


def test_a_damaged_file_in_the_cache_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.deb").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(wanted(server), cache=tmp_path).read_bytes() == CONTENT


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    server.errors = [404]
    urls = (f"{server.url}/gone", f"{server.url}/here")
    assert fetch(wanted(server, urls=urls), cache=tmp_path).read_bytes() == CONTENT
    assert server.requests == ["/gone", "/here"]


def test_an_overloaded_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    fetch(wanted(server), cache=tmp_path)
    assert len(server.requests) == 3
    server.errors = [404] * 9
    with pytest.raises(DownloadError, match="404"):
        fetch(wanted(server, name="b.deb"), cache=tmp_path)
    assert len(server.requests) == 4


def test_a_full_disk_is_noticed_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = download.shutil.disk_usage(tmp_path)._replace(free=65 << 20)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    fetch(wanted(server), cache=tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=64 << 20))
    with pytest.raises(DownloadError, match="needs 700001 bytes, and the disk of"):
        fetch(wanted(server, name="b.deb"), cache=tmp_path)


def test_only_web_addresses_are_opened(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="must begin with http"):
        fetch(wanted(server, urls=("file:///etc/passwd",)), cache=tmp_path)


POOL = "pool/main/a/a_1+b~c_all.deb"


def test_the_mirror_is_the_named_one_then_the_environments_then_apts(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wanted(server, urls=(), pool=POOL, package="a=1+b~c")
    monkeypatch.setattr(download, "_apt_sites", lambda: [f"{server.url}/apt"])
    fetch(package, cache=tmp_path / "1")
    monkeypatch.setenv("CTXE_DEBIAN_MIRROR", f"{server.url}/environment/")
    fetch(package, cache=tmp_path / "2")
    fetch(package, cache=tmp_path / "3", mirror=f"{server.url}/option")
    path = "pool/main/a/a_1%2Bb~c_all.deb"
    assert server.requests == [f"/{base}/{path}" for base in ("apt", "environment", "option")]


def test_without_a_mirror_the_remedies_are_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as raised:
        fetch(wanted(server, urls=(), pool=POOL), cache=tmp_path)
    for remedy in (
        "No Debian mirror is known",
        "--mirror",
        "CTXE_DEBIAN_MIRROR",
        "make book DATA=rendered",
        str(tmp_path),
    ):
        assert remedy in str(raised.value)


def test_apt_is_asked_where_its_mirror_fails(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tmp_path / "content").write_bytes(CONTENT)
    for name, script in {
        "apt-get": f'echo "$@" >> {tmp_path}/calls; case "$*" in *download*) cp {tmp_path}/content a_1_all.deb;; esac',
        "apt-config": "true",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(download.shutil, "which", lambda name: str(tools / name))
    monkeypatch.setattr(download, "_apt_sites", lambda: [server.url])
    server.errors = [404]
    cache = tmp_path / "cache"
    assert fetch(wanted(server, urls=(), pool=POOL, package="a=1"), cache=cache).read_bytes() == CONTENT
    update, get = (tmp_path / "calls").read_text().splitlines()
    assert update.endswith(" update") and get.endswith(" download a=1") and "Dir::State::Lists=" in update
    assert [path.name for path in cache.iterdir()] == ["a.deb"]


def test_apts_settings_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sites = "https://one/debian\nhttps://one/debian\ncdrom://disc\nhttp://two/ubuntu"
    for name, text in {"apt-get": sites, "apt-config": "HTTP='http://proxy:1/'\nHTTPS='DIRECT'"}.items():
        (tmp_path / name).write_text(f'#!/bin/sh\ncat << "END"\n{text}\nEND\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("https_proxy", raising=False)
    assert download._apt_sites() == ["https://one/debian", "http://two/ubuntu"]
    proxies = download._proxies(apt=True)
    assert proxies["http"] == "http://proxy:1/" and "https" not in proxies


def test_progress_is_plain_lines_where_there_is_no_terminal(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    fetch(wanted(server), cache=tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "a.deb: 0.7 of 0.7 MB" and not any("\r" in line for line in lines)
