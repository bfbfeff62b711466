"""A web server that takes results, on a free port of this machine, and fails as it is told to."""

import itertools
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from watching import wait_for

Behaviour = Callable[[Any], None]


class Server(ThreadingHTTPServer):
    """Takes posts, and answers the next ones as the script says; else with 200."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, certificates: Path | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.port = self.server_port
        self.script: deque[Behaviour] = deque()
        self.posts: list[tuple[float, dict[str, str], list[dict[str, Any]]]] = []
        """Time, headers and results of each."""
        self.taken: list[dict[str, Any]] = []
        """Results that were answered with success."""
        self.connections = 0
        self.released = threading.Event()
        self.open: list[socket.socket] = []
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' * (certificates is not None)}://localhost:{self.port}/scores?key=q"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def process_request(self, request: Any, address: Any) -> None:
        self.connections += 1
        self.open.append(request)
        super().process_request(request, address)

    def handle_error(self, request: Any, address: Any) -> None:
        pass  # a client that distrusts us, or does not wait

    def end(self) -> None:
        """Be gone, with all connections, as a server that is restarted."""
        self.released.set()
        self.shutdown()
        self.server_close()
        for connection in self.open:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            connection.close()

    @property
    def sequences(self) -> list[int]:
        return [result["sequence"] for result in self.taken]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        results = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posts.append((time.monotonic(), dict(self.headers), results))
        behave = self.server.script.popleft() if self.server.script else answer(200)
        behave(self)

    def log_message(self, *arguments: object) -> None:
        pass


def answer(status: int, text: str = "", **headers: str) -> Behaviour:
    def behave(handler: Handler) -> None:
        if 200 <= status < 300:
            handler.server.taken += handler.server.posts[-1][2]
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text))}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    return behave


def cut(content: bytes) -> Behaviour:
    """Say so much of an answer, and close the connection."""

    def behave(handler: Handler) -> None:
        handler.wfile.write(content)
        handler.close_connection = True

    return behave


def hang(handler: Handler) -> None:
    handler.server.released.wait(30)
    handler.close_connection = True


def drip(handler: Handler) -> None:
    """Say something, slowly, for ever: no read of the client takes too long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        handler.wfile.write(b"X-%d: x\r\n" % number)
        if handler.server.released.wait(0.05):
            return


def slow(handler: Handler) -> None:
    time.sleep(0.5)
    answer(204)(handler)


def has(server: Server, *sequences: int) -> None:
    wait_for(lambda: set(server.sequences) >= set(sequences), f"{sequences} in {server.sequences}")
