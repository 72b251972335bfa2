"""The stand-in for the hub, and what a client needs to write: who it is, a new repository, one commit.

Its requests and answers are those of the hub's API as huggingface_hub calls it without Xet: preupload, the
LFS batch and upload for large files, then one commit as lines of JSON.
"""

import base64
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from tests.hub_server import LARGE, HubServer, _etag, _Handler

_MODEL = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)")
_BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
LICENSES = ("apache-2.0", "mit", "cc-by-sa-4.0", "gpl-3.0", "other")


class WritableHub(HubServer):
    """Serves root/models/ORG/NAME; `tokens` are those it knows, with their roles: read or write.

    `refused` are the parts of the API (preupload, batch, upload, commit) that answer with this status.
    `commits` lists message and parent of each commit.
    """

    def __init__(self, root: Path):
        super().__init__(root)
        self.tokens: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.objects: dict[str, bytes] = {}
        self.commits: list[tuple[str, str | None]] = []

    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Writer

    def folder(self, repo: str) -> Path:
        return self.root / "models" / repo

    def content(self, repo: str) -> dict[str, bytes]:
        return {name: path.read_bytes() for name, path in self.files("models", repo).items()}


class _Writer(_Handler):
    hub: WritableHub

    @property
    def role(self) -> str | None:
        return self.hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def do_GET(self) -> None:  # noqa: N802 (the name is the base class's)
        if urlsplit(self.path).path != "/api/whoami-v2":
            super().do_GET()
        elif self.role:
            token = {"displayName": "mine", "role": self.role}
            self._json({"name": "tester", "auth": {"accessToken": token}})
        else:
            self._error(401, "", "Invalid credentials in Authorization header")

    def do_POST(self) -> None:  # noqa: N802
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.hub.requests.append(("POST", path, None))
        if path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif self.role != "write":
            self._error(403, "", "You don't have the rights to do that")
        elif path == "/api/repos/create":
            self._create(**json.loads(body))
        elif match := _MODEL.fullmatch(path):
            repo, step, _ = match.groups()
            if not self._refused(step):
                self._preupload(repo, body) if step == "preupload" else self._commit(repo, body)
        elif _BATCH.fullmatch(path):
            if not self._refused("batch"):
                self._batch(json.loads(body)["objects"])
        else:
            self._error(404, "", "Not found")

    def do_PUT(self) -> None:  # noqa: N802
        content = self._body()
        if not self._refused("upload"):
            self.hub.objects[self.path.rpartition("/")[2]] = content
            self._json({})

    def _body(self) -> bytes:
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        pieces = []
        while size := int(self.rfile.readline(), 16):  # chunked, as httpx sends what has no known length
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _refused(self, step: str) -> bool:
        if status := self.hub.refused.get(step):
            self._error(status, "", f"refused at {step}")
        return bool(status)

    def _validate(self, card: str) -> None:
        header = yaml.safe_load(card.split("---\n")[1])
        if header.get("license", "mit") not in LICENSES:
            error = {"message": f'"license" must be one of [{", ".join(LICENSES)}]'}
            body = json.dumps({"errors": [error], "warnings": []}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self._json({"errors": [], "warnings": []})

    def _create(self, name: str, organization: str, **options: str) -> None:
        folder = self.hub.folder(f"{organization}/{name}")
        if folder.exists():
            self._error(409, "", "You already created this model repo")
            return
        folder.mkdir(parents=True)
        (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        self.hub.requests.append(("created", options.get("visibility", "public"), None))
        self._json({"url": f"{self.hub.url}/{organization}/{name}"})

    def _preupload(self, repo: str, body: bytes) -> None:
        there = self.hub.files("models", repo)
        answers = []
        for file in json.loads(body)["files"]:
            name, large = file["path"], file["size"] > LARGE
            mode = "lfs" if large or Path(name).suffix in (".safetensors", ".gguf") else "regular"
            oid = _etag(there[name]) if name in there else None
            answers.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answers})

    def _batch(self, objects: list[dict]) -> None:
        answers = []
        for wanted in objects:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            answers.append({**wanted, **({} if wanted["oid"] in self.hub.objects else {"actions": upload})})
        self._json({"objects": answers, "transfer": "basic"})

    def _commit(self, repo: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent = header.get("parentCommit")
        if parent not in (None, self.hub.commit("models", repo)):
            self._error(412, "", "A commit has happened since. Please refresh and try again.")
            return
        self.hub.commits.append((header["summary"], parent))
        for line in lines:
            value = line["value"]
            if line["key"] in ("file", "lfsFile"):
                content = (
                    base64.b64decode(value["content"])
                    if "content" in value
                    else self.hub.objects[value["oid"]]
                )
                path = self.hub.folder(repo) / value["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        commit = self.hub.commit("models", repo)
        self._json({"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})
