import hashlib
import http.server
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sft.core.errors import UserError
from sft.fetch import pypi
from sft.fetch.cache import cache_dir

WHEEL = "tiny_data-1.0-py3-none-any.whl"
CONTENT = bytes(range(256)) * 2000


def wheel_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny_data/file.bin", CONTENT)
        info = "tiny_data-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return buffer.getvalue()


class Index(http.server.ThreadingHTTPServer):
    """A simple index of one package; `cut` transfers of the wheel break off half-way, `stall` ones hang.

    `query` ends the wheel's address; `ranges` lists from where on the wheel was asked for.
    """

    wheel = wheel_bytes()
    digest = hashlib.sha256(wheel).hexdigest()
    cut = 0
    stall = False
    sent = 0
    query = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ranges: list[str | None] = []


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.path == "/simple/tiny-data/":
            link = f"/files/{WHEEL}{self.server.query}"
            page = f'<!DOCTYPE html><html><body><a href="{link}">{WHEEL}</a></body></html>'.encode()
            self._answer(page, len(page), "text/html")
        elif self.path == f"/files/{WHEEL}{self.server.query}":
            self.server.sent += 1
            wheel, wanted = self.server.wheel, self.headers.get("Range")
            self.server.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            broken = self.server.cut > 0 or self.server.stall
            self.server.cut -= 1
            stop = len(wheel) // 2 if broken else len(wheel)
            self._answer(wheel[start:stop], len(wheel), "application/zip", start)
            self.wfile.flush()
            if self.server.stall:
                time.sleep(30)
        else:
            self.send_error(404)

    def _answer(self, body: bytes, length: int, kind: str, start: int = 0) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{length - 1}/{length}")
        self.send_header("ETag", '"the wheel"')
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length - start))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    server = Index(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def cached_wheels() -> list[Path]:
    """Return every file in the cache that could be taken for a wheel."""
    return sorted((cache_dir() / "pypi").glob("*/*.whl"))


def test_a_wheel_is_fetched_once_and_kept_by_its_checksum(index: Index, capfd: pytest.CaptureFixture) -> None:
    wheel = pypi.fetch("Tiny_Data", "1.0", index.digest.upper())
    assert wheel == cache_dir() / "pypi" / index.digest / WHEEL and wheel.read_bytes() == index.wheel
    assert "Fetching tiny-data==1.0" in capfd.readouterr().out
    assert pypi.fetch("tiny-data", "1.0", index.digest) == wheel and index.sent == 1
    assert capfd.readouterr().out == ""
    assert [path.name for path in (cache_dir() / "pypi").iterdir()] == [index.digest]


def test_a_damaged_wheel_in_the_cache_is_fetched_again(index: Index) -> None:
    wheel = pypi.fetch("tiny-data", "1.0", index.digest)
    wheel.write_bytes(index.wheel[:-1] + b"!")
    assert pypi.fetch("tiny-data", "1.0", index.digest).read_bytes() == index.wheel
    assert index.sent == 2


def test_a_broken_transfer_goes_on_from_where_it_was(index: Index) -> None:
    index.cut = 1
    assert pypi.fetch("tiny-data", "1.0", index.digest).read_bytes() == index.wheel
    assert index.ranges == [None, f"bytes={len(index.wheel) // 2}-"]  # pip from 25.1 on


def test_secrets_in_addresses_are_not_shown(
    index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """Logins, which pip masks itself, and in the query of an address, which it does not."""
    index.query = "?token=s3cret-1"
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:s3cret-2@127.0.0.1:{index.server_port}/simple/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://127.0.0.1:{index.server_port}/?token=s3cret-3")
    pypi.fetch("tiny-data", "1.0", index.digest)
    shown = "".join(capfd.readouterr())
    assert (
        "Looking in indexes: http://****@127.0.0.1" in shown
        and "/?token=****" in shown
        and "s3cret" not in shown
    )
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:s3cret-2@127.0.0.1:9/simple/")
    with pytest.raises(UserError) as told:
        pypi.fetch("tiny-data", "1.0", "1" * 64)
    shown = "".join([*capfd.readouterr(), str(told.value)])
    assert "cannot be reached" in shown and "s3cret" not in shown


def test_a_transfer_that_always_breaks_leaves_nothing(index: Index) -> None:
    index.cut = 1000
    with pytest.raises(UserError, match=r"tiny-data==1.0"):
        pypi.fetch("tiny-data", "1.0", index.digest)
    assert cached_wheels() == []
    index.cut = 0
    assert pypi.fetch("tiny-data", "1.0", index.digest).read_bytes() == index.wheel


def test_a_killed_download_leaves_nothing_that_is_taken_for_whole(index: Index) -> None:
    index.stall = True
    code = f"from sft.fetch import pypi; pypi.fetch('tiny-data', '1.0', '{index.digest}')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while index.sent == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert index.sent and cached_wheels() == []
    index.stall = False
    assert pypi.fetch("tiny-data", "1.0", index.digest).read_bytes() == index.wheel


def test_two_processes_may_fetch_at_once(index: Index) -> None:
    code = f"from sft.fetch import pypi; print(pypi.fetch('tiny-data', '1.0', '{index.digest}'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    last = [process.communicate(timeout=120)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert last == [str(path) for path in cached_wheels()] * 2
    assert cached_wheels()[0].read_bytes() == index.wheel


def test_a_wrong_checksum_is_refused(index: Index) -> None:
    with pytest.raises(UserError, match=rf"tiny-data==1.0: wrong checksum.*{index.digest}"):
        pypi.fetch("tiny-data", "1.0", "0" * 64)
    assert cached_wheels() == []


def test_a_version_that_does_not_exist(index: Index) -> None:
    with pytest.raises(UserError, match=r"tiny-data==2.0: .*no such version.*It has: 1.0"):
        pypi.fetch("tiny-data", "2.0", index.digest)


def test_a_package_that_does_not_exist(index: Index) -> None:
    with pytest.raises(UserError, match=r"tiny-typo==1.0: .*no wheel of a package with that name"):
        pypi.fetch("tiny-typo", "1.0", index.digest)


def test_an_index_that_cannot_be_reached(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple/")
    with pytest.raises(UserError, match=r"tiny-data==1.0: the package index cannot be reached"):
        pypi.fetch("tiny-data", "1.0", index.digest)


def test_an_unknown_checksum_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"pip hash.*\?sha256="):
        pypi.fetch("tiny-data", "1.0")
    with pytest.raises(UserError, match="sha256=abc is not a SHA-256"):
        pypi.fetch("tiny-data", "1.0", "abc")
