"""Receivers of hooks on loopback, each as bad as its script says."""

import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson

SECRET = "whsec_" + "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"  # 24 bytes


class Receiver(ThreadingHTTPServer):
    """Answers the n-th request as `script[n]` says, those after the script with 204, and remembers every one."""

    daemon_threads = True

    def __init__(self, script=()):
        super().__init__(("127.0.0.1", 0), Answering)
        self.script, self.seen, self.sent, self.turn = list(script), [], 0, threading.Lock()
        self.released = threading.Event()  # lets what hangs go on

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hook"

    @property
    def seqs(self):
        return [orjson.loads(body)["seq"] for _, body in self.seen]

    @property
    def ids(self):
        return [headers["webhook-id"] for headers, _ in self.seen]

    def handle_error(self, request, client_address):
        """A sender that hangs up is what some of these provoke."""


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.turn:
            step = self.server.script.pop(0) if self.server.script else 204
            self.server.seen.append((headers, body))
        WAYS.get(step if isinstance(step, str) else "", plain)(self, step)

    def log_message(self, *_):
        """Quiet."""


def plain(answering, step):
    status, headers = step if isinstance(step, tuple) else (step, {})
    answering.send_response(status)
    for name, value in {"content-length": "0", **headers}.items():
        answering.send_header(name, value)
    answering.end_headers()


def hang(answering, _):
    answering.server.released.wait(30)
    answering.close_connection = True


def reset(answering, _):
    answering.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answering.connection.close()


def drip(answering, _):
    """One byte of a header at a time: each read succeeds, the answer never comes."""
    answering.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not answering.server.released.wait(0.05):
        answering.wfile.write(b"x")


def flood(answering, _):
    answering.send_response(200)
    answering.end_headers()
    for _ in range(2000):
        answering.wfile.write(b"x" * 65536)
        answering.server.sent += 65536


def nonsense(answering, _):
    answering.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
    answering.close_connection = True


WAYS = {"hang": hang, "reset": reset, "drip": drip, "flood": flood, "nonsense": nonsense}


@contextmanager
def receiving(*script):
    with Receiver(script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


def wait_until(condition, seconds=60):
    """Poll; the limit is there for a test that fails, not to measure."""
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")
