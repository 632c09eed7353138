"""One HTTPS request to the control paths of an enclave, over a connection that proves nothing.

Invariants: no answer is trusted; what comes back is bounded and is judged by those who hold a policy. A request carries only
what is public: requests for evidence, and sealed envelopes.
Source: docs/operating.md, "Control paths".
"""

import http.client
import ipaddress
import math
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError, StorageError

PREFIX = "/.well-known/glasscase/"
TIMEOUT_S = 30.0
CHUNK = 64 * 1024  # bytes


@dataclass(frozen=True)
class Answer:
    """What the enclave said to one request."""

    status: int
    body: bytes


def ask(
    host: str,
    port: int,
    path: str,
    *,
    max_bytes: int,
    body: bytes | None = None,
    content_type: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Return the answer to GET (no body) or POST of PREFIX + path.

    timeout_s: for each wait, for the whole head and for the whole body. Raises StorageError("hosting.enclave.unreachable") if there is no
    answer, FormatError("hosting.answer.oversize") if it is longer than max_bytes.
    """
    connection = http.client.HTTPSConnection(reachable(host), port, timeout=timeout_s, context=_context())
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request("GET" if body is None else "POST", PREFIX + path, body=body, headers=headers)
        reading: Any = connection.sock  # which the response takes over
        reading.end = time.monotonic() + timeout_s
        response = connection.getresponse()
        reading.end = time.monotonic() + timeout_s
        data = _read(response, max_bytes + 1)
    except (OSError, http.client.HTTPException) as error:
        raise StorageError(
            "hosting.enclave.unreachable", f"the enclave on port {port} does not answer: {_cause(error)}",
            hint="glasscase status", path=f"{host}:{port}",
        ) from None  # fmt: skip
    finally:
        connection.close()
    if len(data) > max_bytes:
        raise FormatError("hosting.answer.oversize", f"the enclave's answer is longer than {max_bytes} bytes")
    return Answer(response.status, data)


class _Bounded(ssl.SSLSocket):
    """A socket that reads until a moment, by the monotonic clock: heads without end know no time-out of their own."""

    end = math.inf

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        if time.monotonic() > self.end:
            raise TimeoutError("the answer did not end in time")
        return super().recv_into(buffer, nbytes, flags)


def shown_certificate(host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> bytes | None:
    """Return the certificate (DER) that a server shows, which proves nothing; no byte of a request is sent.

    Raises StorageError("client.enclave.unreachable").
    """
    try:
        with socket.create_connection((host, port), timeout_s) as plain:
            with _context().wrap_socket(plain, server_hostname=host) as connection:
                return connection.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        raise StorageError(
            "client.enclave.unreachable", f"{host} port {port} cannot be reached: {_cause(error)}", path=host
        ) from None


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Return at most `limit` bytes of a body."""
    parts: list[bytes] = []
    left = limit
    while left and (part := response.read1(min(left, CHUNK))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def reachable(host: str) -> str:
    """Return the address to connect to for one that is listened on."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def canonical_name(name: str) -> str:
    """Return an address in its one spelling and without brackets, a host name as it is."""
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return name


def url(host: str, port: int) -> str:
    """Return the URL of an enclave as the operator's machine reaches it."""
    name = reachable(host)
    return f"https://[{name}]:{port}/" if ":" in name else f"https://{name}:{port}/"


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the evidence inside is judged by its readers, not by this connection
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = _Bounded
    return context


def _cause(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)[:200].lower()
