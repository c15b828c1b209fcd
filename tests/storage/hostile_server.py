"""A web server on loopback that misbehaves on demand, as strangers' servers do."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"picture bytes " * 100


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        name, _, argument = self.path.lstrip("/").partition("?")
        getattr(self, f"give_{name.partition('/')[0]}")(argument)

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in {"Content_Length": len(body), **headers}.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def give_good(self, _):
        self.answer(200, BODY)

    def give_status(self, code):
        self.answer(int(code), b"no")

    def give_away(self, _):
        self.answer(302, Location=self.server.elsewhere)

    def give_nowhere(self, _):
        self.answer(302)

    def give_hops(self, left):
        if int(left) == 0:
            self.answer(200, BODY)
        else:
            self.answer(307, Location=f"/hops?{int(left) - 1}")

    def give_announced(self, size):
        self.close_connection = True
        self.answer(200, BODY, Content_Length=size)

    def give_packed(self, _):
        self.answer(200, BODY, Content_Encoding="gzip")

    def give_chunks(self, count):
        """A body of unknown length, in chunks of 1000 bytes; -1 breaks off in the middle."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(abs(int(count))):
            self.wfile.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        if int(count) < 0:
            self.wfile.write(b"3e8\r\nonly this")
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def give_slow_body(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.drip(b"x")

    def give_slow_header(self, _):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip(b"x")

    def drip(self, letter):
        """A byte now and then: no single read ever waits long."""
        try:
            while not self.server.over.is_set():
                self.wfile.write(letter)
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            self.server.dripping_ended.set()
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.elsewhere = [], ""
        self.over, self.dripping_ended = threading.Event(), threading.Event()
        self.port = self.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"

    def handle_error(self, *_):
        """A client that hangs up is what is tested."""


@contextmanager
def hostile_server(tls=None):
    """The server; with `tls`, a server's context, it speaks https."""
    server = Server()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def silent_server():
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
