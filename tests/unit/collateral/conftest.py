"""A simulated platform, its service on 127.0.0.1, and a server that misbehaves byte by byte."""

import contextlib
import socket
import threading

import pytest

from glasscase.sim.pcs import PcsServer
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.verify.anchor import TrustAnchor

AT = 1764000000


class Site:
    """A platform with one quote; `serve` gives its collateral service."""

    at = AT

    def __init__(self, directory):
        self.platform = SimPlatform.open(directory)
        self.quote = self.platform.quote(report_body(mrenclave=bytes(32), mrsigner=bytes(32)))
        self.anchor = TrustAnchor.insecure_root(self.platform.root_pem.encode()).core

    def serve(self, at=AT):
        return PcsServer(self.platform, at=at)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the platform."""
    return Site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def raw_server():
    """Return a function that serves every connection with `behave(connection, request bytes)` and gives the base URL."""
    stop = threading.Event()
    listeners = []

    def start(behave):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)
        listeners.append(listener)

        def loop():
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except (TimeoutError, OSError):
                    continue
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection):
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                request = b""
                while b"\r\n\r\n" not in request:
                    part = connection.recv(4096)
                    if not part:
                        return
                    request += part
                behave(connection, request)

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    stop.set()
    for listener in listeners:
        listener.close()
