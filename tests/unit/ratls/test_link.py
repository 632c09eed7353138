"""Requests to a server that proves nothing: whatever it does, they end in time."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

from glasscase.errors import StorageError
from glasscase.ratls import link

from ..enclave.conftest import self_signed

HEAD = b"HTTP/1.1 200 OK\r\n"


def provisional(send):
    """Say that the answer comes, and never give it."""
    while True:
        send(b"HTTP/1.1 100 Continue\r\n\r\n")


def dripping_head(send):
    """Begin a head and give a byte of it now and then."""
    send(HEAD + b"X-Long: ")
    while True:
        time.sleep(0.05)
        send(b"x")


def dripping_body(send):
    """The same with the body."""
    send(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        time.sleep(0.05)
        send(b"x")


def silent(_send):
    """Say nothing."""
    time.sleep(2)


@pytest.mark.parametrize("behave", [provisional, dripping_head, dripping_body, silent])
def test_an_answer_ends_in_time(tmp_path, behave):
    """The head has a deadline as a whole, the body another: a hostile host cannot keep its client for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with (
            contextlib.suppress(OSError),
            listener.accept()[0] as plain,
            context.wrap_socket(plain, server_side=True) as peer,
        ):
            peer.settimeout(5)
            peer.recv(65536)
            behave(peer.sendall)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    begun = time.monotonic()
    with listener, pytest.raises(StorageError) as caught:
        link.ask("127.0.0.1", listener.getsockname()[1], "evidence", max_bytes=1 << 20, timeout_s=0.5)
    server.join(10)

    assert "hosting.enclave.unreachable" == caught.value.reason
    assert time.monotonic() - begun < 10
    assert not server.is_alive()
