"""One GET over the network, as one does it for a stranger: pinned, capped, never followed blindly.

The host is resolved once, all of its addresses are judged, and the connection goes to the
address that was judged: a name that answers differently the second time gains nothing. Every
redirect is a new URL and is judged like the first.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from sdbatch.errors import InputPictureError, InputUnreachableError
from sdbatch.storage.public_address import why_not_public

REDIRECTS = frozenset((301, 302, 303, 307, 308))
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Answers that may be others a little later."""

PORTS = {"http": 80, "https": 443}
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpRules:
    """What a fetch is held to.

    Attributes:
        schemes: Of `http` and `https`, those that are allowed.
        allow_hosts: `host:port` as a URL spells them, let through whatever their address is.
        wait_s: Longest silence of the other side.
        tls: Whom to trust; None trusts whom this machine trusts.
    """

    schemes: Collection[str]
    max_bytes: int
    wait_s: float
    max_redirects: int
    allow_hosts: Collection[str] = ()
    tls: ssl.SSLContext | None = None


class HttpFetch:
    """One fetch, with all its redirects. `abort` may come from another thread at any time."""

    def __init__(self, rules: HttpRules) -> None:
        self._rules = rules
        self._connection: http.client.HTTPConnection | None = None
        self._aborted = False

    def get(self, url: str) -> bytes:
        """The body behind a URL.

        Raises:
            InputPictureError: It may not be asked for, or the answer is none.
            InputUnreachableError: The network or the server failed; it may work later.
        """
        where = url
        for _ in range(self._rules.max_redirects + 1):
            answer = self._ask(where, url)
            if isinstance(answer, bytes):
                return answer
            where = answer
        raise InputPictureError(url, f"more than {self._rules.max_redirects} redirects")

    def abort(self) -> None:
        """End it: a read that waits returns at once."""
        self._aborted = True
        sock = self._connection.sock if self._connection else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def _ask(self, where: str, url: str) -> bytes | str:
        """The body, or the URL that the server points to."""
        parts = self._checked(where, url)
        self._connection = connection = self._connect(parts, url)
        if self._aborted:
            raise InputUnreachableError(url, "was given up")
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        target += f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
        headers = {
            "User-Agent": "sdbatch",
            "Accept": "image/png, image/jpeg, image/webp",
            "Accept-Encoding": "identity",  # a body that unpacks has no size until it is too late
        }
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            if response.status in REDIRECTS:
                return self._pointed(response, where, url)
            return self._body(response, url)
        except (OSError, http.client.HTTPException) as error:
            raise InputUnreachableError(url, f"cannot be fetched ({_words(error)})") from error
        finally:
            connection.close()

    def _checked(self, where: str, url: str) -> SplitResult:
        """The parts of a URL that may be asked for."""
        try:
            parts = urlsplit(where)
            _ = parts.port
        except ValueError as error:
            raise InputPictureError(url, f"is no URL ({error})") from error
        moved = "leads to a" if where != url else "is a"
        if parts.scheme not in self._rules.schemes:
            allowed = ", ".join(sorted(self._rules.schemes)) or "none"
            raise InputPictureError(
                url, f"{moved} '{parts.scheme}' address, allowed are: {allowed}"
            )
        if not parts.hostname:
            raise InputPictureError(url, "names no host")
        if parts.username is not None or parts.password is not None:
            raise InputPictureError(url, f"{moved} URL with a user name, leave it out")
        return parts

    def _connect(self, parts: SplitResult, url: str) -> http.client.HTTPConnection:
        host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
        try:
            host = host if ":" in host else host.encode("idna").decode("ascii")
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise InputUnreachableError(url, f"host '{host}' has no address") from error
        addresses = [str(address[4][0]) for address in found]
        if f"{host}:{port}" not in self._rules.allow_hosts:
            for address in addresses:
                why = why_not_public(address)
                if why:
                    raise InputPictureError(
                        url, f"host '{host}' is {address}, {why}: only public hosts are asked"
                    )
        tls = None
        if parts.scheme == "https":
            tls = self._rules.tls or ssl.create_default_context()
        return _Pinned(host, port, addresses[0], self._rules.wait_s, tls)

    def _pointed(self, response: http.client.HTTPResponse, where: str, url: str) -> str:
        location = response.getheader("Location") or ""
        try:
            if location and location.isprintable():
                return urljoin(where, location)
        except ValueError:
            location = ""
        raise InputPictureError(url, f"answer {response.status} leads nowhere")

    def _body(self, response: http.client.HTTPResponse, url: str) -> bytes:
        if response.status != http.HTTPStatus.OK:
            kind = InputUnreachableError if response.status in PASSING else InputPictureError
            raise kind(url, f"the server answers {response.status}")
        packed = response.getheader("Content-Encoding", "identity")
        if packed != "identity":
            raise InputPictureError(url, f"comes packed ({packed!a}), it must come as it is")
        announced, limit = response.length, self._rules.max_bytes
        too_long = f"is longer than {limit:,} bytes"
        if announced is not None and announced > limit:
            raise InputPictureError(url, too_long)
        chunks, size = [], 0
        while chunk := response.read(min(CHUNK_BYTES, limit + 1 - size)):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise InputPictureError(url, too_long)
        if announced is not None and size != announced:
            raise InputUnreachableError(url, f"{size:,} of {announced:,} bytes arrived")
        return b"".join(chunks)


class _Pinned(http.client.HTTPConnection):
    """A connection to one address, whatever its host's name means by now."""

    def __init__(
        self, host: str, port: int, address: str, wait_s: float, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, port, timeout=wait_s)
        self._address, self._tls = address, tls
        self.default_port = PORTS["https" if tls else "http"]  # left out of the Host header

    def connect(self) -> None:
        """Connect to the address that was judged; the certificate must be the host's."""
        sock = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = sock  # seen by `abort` during the handshake
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(sock, server_hostname=self.host)


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
