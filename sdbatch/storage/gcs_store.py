"""`gs://` and `gcs://`: Google Cloud Storage over its JSON interface.

gcsfs brings credentials and the connection; requests are our own. Its small uploads put a fixed
word between the parts of a message, and bytes that hold that word cut the object short
without an error; here the word is made up for every message, and the object's MD5 goes with it.
Create-once is `ifGenerationMatch=0`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import aiohttp
import google.auth.exceptions
import yarl

from sdbatch.storage.cloud_store import CloudStore, Facts
from sdbatch.storage.digests import md5_base64, md5_hex
from sdbatch.storage.retrying import Fault, FaultError, Kind, TornError, by_status

FIELDS = "items(name,size,generation,md5Hash),nextPageToken"
GOING_ON = 308
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error."""

    status: int
    headers: Any
    body: bytes


class _AnswerError(Exception):
    """The store answered with an error."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


class GcsStore(CloudStore):
    """A bucket of Google Cloud Storage, or a folder of one."""

    async def _put(self, name: str, data: bytes, md5: str, *, only_new: bool) -> None:
        boundary = f"sdbatch-{uuid.uuid4().hex}"
        about = json.dumps({"name": name, "md5Hash": md5_base64(md5), "contentType": BINARY})
        body = b"".join((
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
            f"{about}\r\n--{boundary}\r\nContent-Type: {BINARY}\r\n\r\n".encode(),
            data,
            f"\r\n--{boundary}--\r\n".encode(),
        ))  # fmt: skip
        condition = {"ifGenerationMatch": "0"} if only_new else {}
        reply = await self._ask(
            "POST",
            self._upload_url(uploadType="multipart", **condition),
            {"Content-Type": f"multipart/related; boundary={boundary}"},
            body,
        )
        if _facts(_document(reply.body)).md5 not in ("", md5):
            raise TornError("other bytes were stored than were sent")

    async def _read(self, name: str, first: int, end: int, tag: str) -> tuple[bytes, Facts]:
        version = {"generation": tag} if tag else {}
        headers = {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        reply = await self._ask("GET", self._object_url(name, alt="media", **version), headers)
        total = reply.headers.get("Content-Range", "").rpartition("/")[2]
        size = int(total) if total.isdigit() else int(reply.headers["Content-Length"])
        generation = reply.headers.get("X-Goog-Generation", "")
        if not generation:  # not the object: something on the way answered for the store
            raise TornError("an answer without a generation")
        return reply.body, Facts(size, generation, _md5_header(reply.headers))

    async def _stat(self, name: str) -> Facts:
        reply = await self._ask("GET", self._object_url(name))
        return _facts(_document(reply.body))

    async def _page(self, prefix: str, mark: str) -> tuple[Sequence[tuple[str, Facts]], str]:
        go_on = {"pageToken": mark} if mark else {}
        url = f"{self._base()}storage/v1/b/{quote(self.bucket, safe='')}/o"
        query = urlencode({"prefix": prefix, "fields": FIELDS, **go_on})
        body = _document((await self._ask("GET", f"{url}?{query}")).body)
        found = [(item["name"], _facts(item)) for item in body.get("items", ())]
        return found, str(body.get("nextPageToken", ""))

    async def _remove(self, name: str) -> None:
        await self._ask("DELETE", self._object_url(name))

    def _put_large(self, key: str, file: BinaryIO, size: int, md5: str) -> str:
        about = json.dumps({"name": self._name(key), "md5Hash": md5_base64(md5)}).encode()
        headers = {
            "Content-Type": "application/json; charset=UTF-8",
            "X-Upload-Content-Type": BINARY,
            "X-Upload-Content-Length": str(size),
        }
        url = self._upload_url(uploadType="resumable")
        begun = self._do(key, "write", lambda: self._ask("POST", url, headers, about))
        place, sent = begun.headers.get("Location", ""), 0
        if not place:
            raise TornError("an upload that was begun nowhere")
        try:
            while sent < size:
                file.seek(sent)
                data = file.read(2 * self.chunk_bytes)
                sent = self._send_chunk(key, place, data, sent, size)
        except FaultError as error:
            raise TornError(f"the upload was lost: {error.fault.reason}") from error
        return md5

    def _send_chunk(self, key: str, place: str, data: bytes, first: int, size: int) -> int:
        """Send a chunk, asking on a second try how much of it is there; returns the new end."""
        tries = 0

        async def request() -> int:
            nonlocal tries
            tries += 1
            start = first if tries == 1 else await self._received(place, size)
            if start >= first + len(data):
                return start
            if start < first:
                raise _AnswerError(410, b"")  # the session forgot what it had
            piece = data[start - first :]
            headers = {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{size}"}
            reply = await self._ask("PUT", place, headers, piece)
            return _end_of(reply, size)

        return self._do(key, "send", request)

    async def _received(self, place: str, size: int) -> int:
        return _end_of(
            await self._ask("PUT", place, {"Content-Range": f"bytes */{size}"}, b""), size
        )

    # -- one exchange ------------------------------------------------------------------------

    def _before(self) -> None:
        # Refreshing a token blocks; on the client's loop it would hold up every other call.
        self._client().credentials.maybe_refresh()

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, data: bytes = b""
    ) -> Reply:
        fs = self._client()
        await fs._set_session()
        signed = dict(headers or {})
        fs.credentials.apply(signed)
        async with fs.session.request(
            method,
            yarl.URL(self._billed(url), encoded=True),
            headers=signed,
            data=data or None,
            timeout=aiohttp.ClientTimeout(total=self.patience.call_s),
            allow_redirects=False,  # 308 says "go on" here
        ) as reply:
            body = await reply.read()
            if reply.status >= 300 and reply.status != GOING_ON:
                raise _AnswerError(reply.status, body)
            return Reply(reply.status, reply.headers, body)

    def _billed(self, url: str) -> str:
        payer = self._client().requester_pays
        if not payer:
            return url
        project = payer if isinstance(payer, str) else self._client().project
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'userProject': project})}"

    def _base(self) -> str:
        return str(self._client().base).removesuffix("storage/v1/")

    def _object_url(self, name: str, **query: str) -> str:
        path = f"storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(name, safe='')}"
        return f"{self._base()}{path}{'?' if query else ''}{urlencode(query)}"

    def _upload_url(self, **query: str) -> str:
        path = f"upload/storage/v1/b/{quote(self.bucket, safe='')}/o"
        return f"{self._base()}{path}?{urlencode(query)}"

    def _sort(self, error: Exception) -> Fault:
        if isinstance(error, _AnswerError):
            return _answer(error)
        if isinstance(error, google.auth.exceptions.DefaultCredentialsError):
            advice = "set GOOGLE_APPLICATION_CREDENTIALS or run gcloud auth application-default"
            return Fault(Kind.ACCESS, f"no credentials; {advice} login")
        if isinstance(error, google.auth.exceptions.TransportError):
            return Fault(Kind.PASSING, _line(error))
        if isinstance(error, google.auth.exceptions.GoogleAuthError):
            return Fault(Kind.ACCESS, f"{_line(error)}; renew the credentials")
        if type(error).__module__ == "gcsfs.retry":  # how gcsfs reports a failed refresh
            return Fault(Kind.ACCESS, f"{_line(error)}; renew the credentials")
        if isinstance(error, aiohttp.InvalidURL | ValueError):
            return Fault(Kind.REFUSED, _line(error))
        if isinstance(error, KeyError | aiohttp.ClientError | OSError):  # a fact was missing
            return Fault(Kind.PASSING, _line(error))
        return Fault(Kind.REFUSED, f"{type(error).__name__}: {_line(error)}")


def _document(body: bytes) -> Mapping[str, Any]:
    """An answer's JSON; one that does not parse was cut or changed on its way."""
    try:
        document = json.loads(body)
    except ValueError as error:
        raise TornError(f"an answer that is no JSON: {_line(error)}") from error
    if not isinstance(document, dict) or "error" in document:
        raise TornError("an answer that is not the one that was due")
    return document


def _facts(about: Mapping[str, Any]) -> Facts:
    md5 = md5_hex(about.get("md5Hash"))
    return Facts(int(about["size"]), str(about.get("generation", "")), md5, md5)


def _md5_header(headers: Any) -> str:
    for value in headers.getall("X-Goog-Hash", ()):
        for part in value.split(","):
            name, _, text = part.strip().partition("=")
            if name == "md5":
                return md5_hex(text)
    return ""


def _end_of(reply: Reply, size: int) -> int:
    """How many bytes of an upload have arrived, as its session says."""
    if reply.status != GOING_ON:
        return size
    end = reply.headers.get("Range", "").rpartition("-")[2]
    return int(end) + 1 if end.isdigit() else 0


def _answer(error: _AnswerError) -> Fault:
    """What an error document means."""
    try:
        said = json.loads(error.body)["error"]
        message = said if isinstance(said, str) else str(said.get("message", ""))
        reasons = [] if isinstance(said, str) else [one.get("reason", "") for one in
                                                    said.get("errors", ())]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        message, reasons = error.body[:200].decode("ascii", "replace"), []
    if error.status == 404 and "bucket" in message.lower():
        return Fault(Kind.ACCESS, "there is no such bucket, create it or name another")
    if error.status == 403 and any("LimitExceeded" in reason for reason in reasons):
        return Fault(Kind.PASSING, message)
    if error.status == 400 and ("md5" in message.lower() or "hash" in message.lower()):
        return Fault(Kind.PASSING, message)
    return by_status(error.status, reasons[0] if reasons else "", message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
