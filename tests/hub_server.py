"""A stand-in for the Hugging Face Hub on the loopback: serves a folder of repositories as the hub does.

It answers the calls that huggingface_hub makes to resolve a revision, list a repository and download files,
with its headers and error codes, so tests run the real client against it, and so does benchmarks.rehearsal.
Large files are sent without being read into memory, and hashed once.
"""

import hashlib
import json
import re
import struct
import threading
import time
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

_API = re.compile(r"/api/(datasets|models)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
LARGE = 10_000_000
_FILE = re.compile(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class HubServer:
    """Serves root/datasets/ORG/NAME and root/models/ORG/NAME while the `with` block runs.

    Each has one commit, derived from its contents unless `pinned` has one for its name, and known as `main`
    and by its hash; names in `gated` are answered as gated. `breaks` maps a path within a repository to how
    its next downloads end: "early" is a connection closed halfway, "reset" one reset halfway. `requests`
    lists method, path and range asked for.
    """

    def __init__(self, root: Path):
        self.root = root
        self.gated: set[str] = set()
        self.pinned: dict[str, str] = {}
        self.breaks: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.stalled = threading.Event()

    def __enter__(self) -> "HubServer":
        handler = type("Handler", (self.handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        """What answers the requests."""
        return _Handler

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, cache: Path) -> dict[str, str]:
        """Return what a process needs in its environment to use this hub, with `cache` as the client's."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def commit(self, kind: str, repo: str) -> str:
        """Return the commit of a repository; `kind` is "datasets" or "models"."""
        if repo in self.pinned:
            return self.pinned[repo]
        digest = hashlib.sha1()
        for name, path in self.files(kind, repo).items():
            digest.update(f"{name}:{path.stat().st_size}:{_etag(path)}\n".encode())
        return digest.hexdigest()

    def files(self, kind: str, repo: str) -> dict[str, Path]:
        folder = self.root / kind / repo
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path for path in paths}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if match := _API.fullmatch(path):
            kind, repo, view, revision, folder = match.groups()
            if self._found(kind, repo, revision or "main"):
                self._api(kind, repo, view == "tree", folder)
        elif match := _FILE.fullmatch(path):
            kind, repo, revision, name = match.groups()
            if self._found(kind or "models", repo, revision):
                self._file(kind or "models", repo, name)
        else:
            self._error(404, "", "Not found")

    def _found(self, kind: str, repo: str, revision: str) -> bool:
        if not (self.hub.root / kind / repo).is_dir():
            # The hub does not tell a stranger whether a private repository exists.
            self._error(401, "RepoNotFound", "Repository not found")
        elif unquote(revision) not in ("main", self.hub.commit(kind, repo)):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return True
        return False

    def _api(self, kind: str, repo: str, tree: bool, folder: str | None) -> None:
        files = self.hub.files(kind, repo)
        if folder:
            files = {name: path for name, path in files.items() if name.startswith(f"{folder}/")}
            if not files:
                self._error(404, "EntryNotFound", "Entry not found")
                return
        if tree:
            self._json(
                [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": _etag(path)}
                    for name, path in files.items()
                ]
            )
        else:
            siblings = [{"rfilename": name} for name in files]
            answer = {"id": repo, "sha": self.hub.commit(kind, repo), "siblings": siblings, "private": False}
            self._json({**answer, "tags": [], "downloads": 0, "likes": 0})

    def _file(self, kind: str, repo: str, name: str) -> None:
        path = self.hub.files(kind, repo).get(name)
        if repo in self.hub.gated:
            self._error(403, "GatedRepo", "Access is restricted")
        elif path is None:
            self._error(404, "EntryNotFound", "Entry not found")
        else:
            with path.open("rb") as file:
                self._content(file, path.stat().st_size, _etag(path), self.hub.commit(kind, repo), name)

    def _content(self, file: BinaryIO, size: int, etag: str, commit: str, name: str) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(size - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "HEAD":
            return
        breaks = self.hub.breaks.get(name)
        if not breaks:
            if size > start:
                self.connection.sendfile(file, start)
            return
        file.seek(start)
        way = breaks.pop(0)
        if way == "wrong":
            self.wfile.write(file.read()[::-1])
            return
        self.wfile.write(file.read((start + size) // 2 - start))
        self.wfile.flush()
        if way == "stall":
            self.hub.stalled.set()
            time.sleep(60)
        if way == "reset":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(path: Path) -> str:
    """Return what the hub names a file by: large files have their SHA-256, others Git's SHA-1."""
    stat = path.stat()
    if stat.st_size > LARGE:
        return _sha256(path, stat.st_size, stat.st_mtime_ns)
    content = path.read_bytes()
    if path.suffix in (".safetensors", ".parquet"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Hash a large file, once for as long as it is `size` bytes that were `changed` then."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
