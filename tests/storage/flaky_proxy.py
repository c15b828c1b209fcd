"""An HTTP proxy that spoils what passes through it, as networks and gateways do.

It stands between a client and a storage server. A plan is asked for every request what
happens to it: nothing, or a `Fault`. Some faults come before the server hears of the
request, some after it has acted, which is the difference that commit protocols live on.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BUSY = {
    "s3": b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>slower</Message></Error>",
    "az": b"<?xml version='1.0'?><Error><Code>ServerBusy</Code><Message>busy</Message></Error>",
    "gs": b'{"error": {"code": 503, "message": "injected"}}',
}
BEFORE = ("status", "reset", "hang", "flip_up")
AFTER = ("lost", "status_after", "hang_after", "truncate", "shorten", "flip_down", "late_error")
FAULTS = (*BEFORE, *AFTER)


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    `status`: answered with `code` and never passed on; `status_after`: passed on, then answered
    so. `reset`, `lost`: the connection is cut before or after the server acted. `hang`,
    `hang_after`: no answer, before or after. `truncate`: the connection ends in the middle
    of the answer; `shorten`: half an answer that claims to be whole. `flip_up`, `flip_down`: one
    byte differs on the way. `late_error`: status 200 with an error in its body.
    """

    what: str
    code: int = 503


@dataclass
class Request:
    """What a plan is asked about."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Plan = Callable[[Request], Fault | None]


def first(count: int, fault: Fault, matches: Callable[[Request], bool] = lambda _: True) -> Plan:
    """Spoil the first `count` requests that match."""
    left = [count]

    def plan(request: Request) -> Fault | None:
        if left[0] > 0 and matches(request):
            left[0] -= 1
            return fault
        return None

    return plan


def always(fault: Fault) -> Plan:
    """Spoil every request."""
    return lambda _: fault


@dataclass
class FlakyProxy:
    """Listens on the loopback from `start` to `stop`, in a thread of its own."""

    kind: str
    upstream: int
    plan: Plan = lambda _: None
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    port: int = 0

    def start(self) -> FlakyProxy:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[Any] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 26)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                request, raw = await self._take(head, reader, writer)
                if not await self._exchange(request, head, raw, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    async def _take(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Request, bytes]:
        """A request and its body as it came."""
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if ":" in line)
        }
        if headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()
        if "chunked" in headers.get("transfer-encoding", "").lower():
            raw = await _read_chunked(reader)
        else:
            raw = await reader.readexactly(int(headers.get("content-length", 0) or 0))
        return Request(method, path, headers, raw), raw

    async def _exchange(
        self, request: Request, head: bytes, raw: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False ends the connection."""
        fault = self.plan(request)
        what = fault.what if fault else ""
        self.seen.append((request.method, request.path, what))
        if fault and what == "status":
            return await self._say(fault.code, request, writer)
        if what == "reset":
            return _cut(writer)
        if what == "hang":
            await asyncio.sleep(3600)
        if what == "flip_up" and raw:
            middle = len(raw) // 2
            raw = raw[:middle] + bytes([raw[middle] ^ 0xFF]) + raw[middle + 1 :]
        answer_head, body = await self._pass_on(request, head, raw)
        if what == "lost":
            return _cut(writer)
        if what == "hang_after":
            await asyncio.sleep(3600)
        if fault and what == "status_after":
            return await self._say(fault.code, request, writer)
        if what == "late_error":
            return await self._say(200, request, writer)
        return await self._answer(what, request, answer_head, body, writer)

    async def _answer(
        self, what: str, request: Request, head: bytes, body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        half = body[: len(body) // 2]
        if what == "flip_down" and body:
            body = half + bytes([body[len(half)] ^ 0xFF]) + body[len(half) + 1 :]
        if what == "shorten":
            body = half
        bare = re.sub(rb"(?i)\r\n(content-length|transfer-encoding|connection):[^\r]*", b"", head)
        length = len(body) if request.method != "HEAD" else _length(head)
        if head[9:12] not in (b"204", b"304"):
            bare += b"\r\nContent-Length: %d" % length
        sent = half if what == "truncate" else body
        writer.write(bare + b"\r\n\r\n" + (b"" if request.method == "HEAD" else sent))
        await writer.drain()
        return what != "truncate"

    async def _pass_on(self, request: Request, head: bytes, raw: bytes) -> tuple[bytes, bytes]:
        """The server's answer: head, and body as it is meant."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream, limit=1 << 26)
        asked = re.sub(rb"(?i)\r\n(connection|expect):[^\r]*", b"", head.removesuffix(b"\r\n\r\n"))
        writer.write(asked + b"\r\nConnection: close\r\n\r\n" + raw)
        await writer.drain()
        while True:
            answer = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 100"):
                break
        body = b""
        if request.method != "HEAD" and answer[9:12] not in (b"204", b"304"):
            body = await _read_body(answer, reader)
        writer.close()
        places = (b"127.0.0.1:%d" % port for port in (self.upstream, self.port))
        return re.sub(rb"(?i)(\r\nlocation:[^\r]*)" + next(places),
                      rb"\g<1>" + next(places), answer), body  # fmt: skip

    async def _say(self, code: int, request: Request, writer: asyncio.StreamWriter) -> bool:
        body = BUSY[self.kind]
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % (code, len(body)) + (b"" if request.method == "HEAD" else body))
        await writer.drain()
        return True


async def _read_chunked(reader: asyncio.StreamReader) -> bytes:
    """A chunked body as it came, with its lengths and trailers."""
    raw = b""
    while True:
        line = await reader.readline()
        size = int(line.split(b";")[0], 16)
        raw += line + await reader.readexactly(size + 2 if size else 0)
        while not size:
            trailer = await reader.readline()
            raw += trailer
            if trailer in (b"\r\n", b""):
                return raw


async def _read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if re.search(rb"(?i)\r\ntransfer-encoding:[^\r]*chunked", head):
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        return body
    if re.search(rb"(?i)\r\ncontent-length:", head):
        return await reader.readexactly(_length(head))
    return await reader.read(-1)


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(found[1]) if found else 0


def _cut(writer: asyncio.StreamWriter) -> bool:
    """End a connection with a reset."""
    plug = writer.transport.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
