"""A Hub on the loopback: what huggingface_hub asks of one, and a count of all it was asked.

Repositories are folders. A server may gate them, hide them, answer slowly, cut a transfer in
the middle or refuse a token.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

GOOD_TOKEN, OTHER_TOKEN = "hf_goodgoodgoodgoodgood1", "hf_otherotherotherother1"
CHUNK = 64 * 1024
LARGE = 1000
"""Files from this size on are stored as large ones, known by their sha256."""


@dataclass
class FakeRepo:
    """A repository: revision to folder.

    Attributes:
        commits: Commit to the folder that holds its files.
        branches: Branch or tag to commit.
        access: `open`, `gated` or `private`.
    """

    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    access: str = "open"

    def push(self, folder, branch="main"):
        """A new commit that a branch stands for; returns it."""
        commit = hashlib.sha1(f"{folder}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = Path(folder)
        self.branches[branch] = commit
        return commit


@dataclass
class FakeHub:
    """The server.

    Attributes:
        requests: (method, path) of everything that was asked.
        cut: File name to how often its transfer is cut in the middle.
        bytes_per_s: How fast files are sent; None as fast as they can be.
    """

    endpoint: str = ""
    repos: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    cut: dict = field(default_factory=dict)
    bytes_per_s: float | None = None
    ranges: list = field(default_factory=list)
    status: int = 0

    def repo(self, name, folder=None, **options):
        made = self.repos[name] = FakeRepo(**options)
        if folder is not None:
            made.push(folder)
        return made

    def downloads(self):
        """Files that were sent, once for each time."""
        return [path.split("/resolve/")[1].split("/", 1)[1] for method, path in self.requests
                if method == "GET" and "/resolve/" in path]  # fmt: skip


_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)/?")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.status:
            return self._refuse(self.hub.status)
        for pattern, act in ((_RESOLVE, self._file), (_TREE, self._tree), (_INFO, self._info)):
            found = pattern.fullmatch(path)
            if found:
                return act(**found.groupdict())
        return self._refuse(404)

    def _refuse(self, status, code="", message=""):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _allowed(self, repo, content):
        """The repository, or None when it has been refused."""
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token not in ("", GOOD_TOKEN, OTHER_TOKEN):
            self._refuse(401, message="Invalid credentials in Authorization header")
            return None
        found = self.hub.repos.get(repo)
        if found is None or (found.access == "private" and token != GOOD_TOKEN):
            self._refuse(404 if token else 401, "RepoNotFound")
            return None
        if content and found.access == "gated" and token != GOOD_TOKEN:
            self._refuse(403 if token else 401, "GatedRepo")
            return None
        return found

    def _commit(self, repo, revision):
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _info(self, repo, revision):
        found = self._allowed(repo, content=False)
        commit = found and self._commit(found, revision or "main")
        if commit:
            self._json({"id": repo, "modelId": repo, "sha": commit, "siblings": [], "tags": []})

    def _tree(self, repo, revision):
        found = self._allowed(repo, content=False)
        commit = found and self._commit(found, revision)
        if commit:
            folder = found.commits[commit]
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            self._json([_entry(path, folder) for path in files])

    def _json(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self, repo, revision, file):
        found = self._allowed(repo, content=True)
        commit = found and self._commit(found, revision)
        if not commit:
            return
        path = found.commits[commit] / file
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if wanted:
            self.hub.ranges.append((file, start))
        self.send_response(206 if wanted else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("Content-Length", str(len(data) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET":
            self._send(file, data[start:])

    def _send(self, file, data):
        end = len(data)
        if self.hub.cut.get(file, 0) > 0:
            self.hub.cut[file] -= 1
            end = max(len(data) // 2, 1)
        for first in range(0, end, CHUNK):
            piece = data[first : min(first + CHUNK, end)]
            try:
                self.wfile.write(piece)
            except OSError:
                break
            if self.hub.bytes_per_s:
                time.sleep(len(piece) / self.hub.bytes_per_s)
        if end < len(data):
            self.close_connection = True
            self.connection.close()


def _etag(path):
    data = path.read_bytes()
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path, folder):
    size = path.stat().st_size
    entry = {"type": "file", "path": path.relative_to(folder).as_posix(), "size": size,
             "oid": "0" * 40}  # fmt: skip
    if size >= LARGE:
        entry["lfs"] = {"oid": _etag(path), "size": size, "pointerSize": 130}
    return entry


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


@contextmanager
def fake_hub():
    """A running server."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def asked_here(home, monkeypatch):
    """A running server that this process asks, with an empty cache below `home`."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(home / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # that of these tests
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):  # what this process starts asks as well
        monkeypatch.delenv(name, raising=False)
    with fake_hub() as server:
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
