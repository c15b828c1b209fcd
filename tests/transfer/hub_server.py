"""The few endpoints of the Hugging Face Hub that a push needs, on this machine, with faults.

Written from what `huggingface_hub` sends: repositories, branches, trees, large files (git LFS,
basic transfer), commits as lines of JSON, and reading one file. It refuses a commit that names
large files it does not hold, as the Hub does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class HubServer:
    """State of a small Hub; `faults` is asked before and after every request."""

    def __init__(self):
        self.repos, self.large, self.requests = {}, {}, []
        self.commits, self.uploads = [], []
        self.token = "hf_" + "t" * 30
        self.faults = lambda method, path, when: None
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def files(self, repo, branch="main"):
        """Path to bytes."""
        return {
            path: data if isinstance(data, bytes) else self.large[data[0]]
            for path, data in self.repos[repo]["branches"][branch].items()
        }

    def _handler(hub):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle_one_request(self):
                with suppress(ConnectionError):
                    super().handle_one_request()

            def _do(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = (
                    self._chunked()
                    if "chunked" in self.headers.get("Transfer-Encoding", "")
                    else self.rfile.read(length)
                )
                path = unquote(urlsplit(self.path).path)
                with hub.lock:
                    hub.requests.append((self.command, path))
                    if self._fault(path, "before"):
                        return
                    status, answer, headers = hub.answer(
                        self.command, path, body, self.headers.get("Authorization", "")
                    )
                    if self._fault(path, "after"):
                        return
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = _do  # noqa: N815  # names of the library

            def _chunked(self):
                data = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data

            def _fault(self, path, when):
                """Close the connection without a word, or answer with an error."""
                fault = hub.faults(self.command, path, when)
                if fault is None:
                    return False
                if fault == "drop":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return True
                self.send_response(fault)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return True

        return Handler

    def answer(self, method, path, body, token):
        """(status, body, headers) of a request."""
        if token != f"Bearer {self.token}" and not path.startswith("/upload/"):
            return 401, {"error": "Invalid credentials"}, {}
        for pattern, do in ROUTES:
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return do(self, body, *match.groups())
        return 404, {"error": f"no such endpoint {method} {path}"}, {}

    # -- endpoints -----------------------------------------------------------------------------

    def create(self, body):
        asked = json.loads(body)
        repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if repo in self.repos:
            return 409, {"error": "exists", "url": f"{self.url}/datasets/{repo}"}, {}
        self.repos[repo] = {"seen_by": asked.get("visibility"), "branches": {"main": {}}}
        return 200, {"url": f"{self.url}/datasets/{repo}"}, {}

    def branch(self, body, repo, branch):
        branches = self.repos[repo]["branches"]
        if branch in branches:
            return 409, {"error": "exists"}, {}
        branches[branch] = dict(branches["main"])
        return 200, {}, {}

    def tree(self, body, repo, branch):
        if branch not in self.repos.get(repo, {}).get("branches", {}):
            return 404, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"}
        found = []
        for path, data in self.repos[repo]["branches"][branch].items():
            entry = {"type": "file", "path": path, "oid": git_sha1(data)}
            if isinstance(data, bytes):
                entry["size"] = len(data)
            else:
                oid, size = data
                entry |= {"size": size, "lfs": {"oid": oid, "size": size, "pointerSize": 134}}
            found.append(entry)
        return 200, [{"type": "directory", "path": "data", "oid": "0" * 40}, *found], {}

    def preupload(self, body, repo, branch):
        branch_files = self.repos[repo]["branches"][branch]
        return (
            200,
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "regular" if file["path"].endswith(".md") else "lfs",
                        "shouldIgnore": False,
                        "oid": git_sha1(branch_files[file["path"]])
                        if file["path"] in branch_files
                        else None,
                    }
                    for file in json.loads(body)["files"]
                ]
            },
            {},
        )

    def batch(self, body, repo):
        objects = []
        for one in json.loads(body)["objects"]:
            answer = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.large:
                answer["actions"] = {"upload": {"href": f"{self.url}/upload/{one['oid']}"}}
            objects.append(answer)
        return 200, {"transfer": "basic", "objects": objects}, {}

    def upload(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "other bytes"}, {}
        self.large[oid] = body
        self.uploads.append(oid)
        return 200, {}, {}

    def commit(self, body, repo, branch):
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        files = dict(self.repos[repo]["branches"][branch])
        operations = [line for line in lines if line["key"] != "header"]
        for line in operations:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.large:
                    return 400, {"error": f"{value['path']}: its bytes were never sent"}, {}
                files[value["path"]] = (value["oid"], value["size"])
            elif files.pop(value["path"], None) is None:
                return 404, {"error": "A file with this name doesn't exist"}, {}
        self.repos[repo]["branches"][branch] = files
        self.commits.append([line["value"]["path"] for line in operations])
        commit = {"commitUrl": f"{self.url}/commit", "commitOid": "a" * 40}
        return 200, {**commit, "success": True}, {}

    def resolve(self, body, repo, branch, path):
        files = self.files(repo, branch)
        if path not in files:
            return 404, {"error": "not there"}, {"X-Error-Code": "EntryNotFound"}
        etag = hashlib.sha256(files[path]).hexdigest()
        return 200, files[path], {"ETag": f'"{etag}"', "X-Repo-Commit": "a" * 40}

    def valid(self, body):
        return 200, {"errors": [], "warnings": []}, {}


def git_sha1(data):
    if not isinstance(data, bytes):
        data = f"pointer {data}".encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = [
    (r"POST /api/repos/create", HubServer.create),
    (rf"POST /api/datasets/{REPO}/branch/(.+)", HubServer.branch),
    (rf"GET /api/datasets/{REPO}/tree/([^/]+)/?", HubServer.tree),
    (rf"POST /api/datasets/{REPO}/preupload/(.+)", HubServer.preupload),
    (rf"POST /datasets/{REPO}.git/info/lfs/objects/batch", HubServer.batch),
    (r"PUT /upload/(\w+)", HubServer.upload),
    (rf"POST /api/datasets/{REPO}/commit/(.+)", HubServer.commit),
    (rf"(?:GET|HEAD) /datasets/{REPO}/resolve/([^/]+)/(.+)", HubServer.resolve),
    (r"POST /api/validate-yaml", HubServer.valid),
]
