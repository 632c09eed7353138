"""The ASGI application at the port: glasscase's own endpoints, and the owner's application behind a gate.

Invariants: a path below /.well-known/glasscase is never given to the application, and the application sees nothing before
the state is `serving`; the head of every request has a limit in bytes, and every body to an endpoint of our own one in time too;
a refused envelope has one answer whatever the cause.
Source: docs/provisioning.md, "Endpoints" and "Limits of the listener".
"""

import asyncio
import contextlib
import json
from collections import OrderedDict
from typing import Any, Protocol

from glasscase.codec import cbor
from glasscase.codec.record import take_map
from glasscase.enclave.asgi import CBOR, COSE, TEXT, Application, Receive, Scope, Send, refuse_socket, reply
from glasscase.enclave.instancefile import beacon_digest
from glasscase.enclave.running import Running, Waits, end_oldest
from glasscase.errors import Error, FormatError
from glasscase.seal.cose import COSE_MAX

PREFIX = "/.well-known/glasscase"
HEADERS_MAX = 32 * 1024  # bytes of a request's head; the servers' own limits are above it
ASK_MAX = 64 * 1024  # bytes of a POST evidence
UPLOADS_MAX = 64  # bodies of POST requests that may be on their way; one more ends the oldest
JUDGED_MAX = 64  # envelopes that may wait for their answer; one more is refused
UPLOAD_TIMEOUT_S = 30.0


class Enclave(Protocol):
    """What the gateway asks of the enclave; all of it may take time, so it is awaited."""

    async def evidence(self) -> bytes:
        """Return the current attestation."""

    async def attest(self, *, nonce: bytes | None, beacon: bytes | None) -> bytes:
        """Return a new attestation over the live keys."""

    async def provision(self, envelope: bytes) -> bytes:
        """Return the receipt for an accepted envelope; raises Error for any other."""

    def status(self) -> dict[str, Any]:
        """Return what GET status answers."""


class Gateway:
    """The application that the server runs. body_max: bytes of a request body; idle_s: seconds between two parts of it."""

    def __init__(self, enclave: Enclave, *, body_max: int, idle_s: float) -> None:
        self._enclave = enclave
        self._application: Application | None = None
        self._state: dict[str, Any] = {}
        self._attesting = False
        self._judged = 0
        self._uploads: Waits = OrderedDict()
        self._running = Running(body_max=body_max, idle_s=idle_s)

    def open(self, application: Application, state: dict[str, Any]) -> None:
        """Let requests through to the application. state: what its lifespan left for the scope of each request."""
        self._application, self._state = application, state

    def close(self) -> None:
        """Let no further request through."""
        self._application = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection of a client that may use the application."""
        if (
            self._application is None
            or scope["type"] != "http"
            or scope["path"].startswith(PREFIX)
            or _is_oversize(scope)
        ):
            await self.answer(scope, receive, send, welcome=True)
        else:  # the common case, with one call less
            scope["state"] = dict(self._state)
            await self._running.request(scope, receive, send, self._application)

    async def answer(self, scope: Scope, receive: Receive, send: Send, *, welcome: bool) -> None:
        """Answer one request. welcome: whether this client may use the application (mutual TLS)."""
        path = scope["path"]
        if _is_oversize(scope):
            if scope["type"] == "http":
                await reply(send, 431, TEXT, b"the head is too long\n")
            else:
                await refuse_socket(scope, receive, send, 431)
        elif path.startswith(PREFIX) and (path == PREFIX or path.startswith(PREFIX + "/")):
            if scope["type"] == "http":
                await self._answer_own(scope, receive, send)
            else:
                await refuse_socket(scope, receive, send, 404)
        elif self._application is None:
            await _unavailable(scope, receive, send)
        elif not welcome:
            if scope["type"] == "http":
                await reply(send, 403, TEXT, b"a client certificate is required\n")
            else:
                await refuse_socket(scope, receive, send, 403)
        else:
            scope["state"] = dict(self._state)
            if scope["type"] == "http":
                await self._running.request(scope, receive, send, self._application)
            else:
                await self._running.websocket(scope, receive, send, self._application)

    async def _answer_own(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = (scope["method"], scope["path"].removeprefix(PREFIX + "/"))
        if request == ("GET", "evidence"):
            await reply(send, 200, CBOR, await self._enclave.evidence())
        elif request == ("GET", "status"):
            await reply(send, 200, "application/json", json.dumps(self._enclave.status()).encode() + b"\n")
        elif request == ("POST", "evidence"):
            await self._answer_attest(receive, send)
        elif request == ("POST", "provision"):
            await self._answer_provision(scope, receive, send)
        elif request[1] in ("evidence", "status", "provision"):
            await reply(send, 405, TEXT, b"method not allowed\n")
        else:
            await reply(send, 404, TEXT, b"not found\n")

    async def _answer_attest(self, receive: Receive, send: Send) -> None:
        body = await self._body(receive, ASK_MAX)
        try:
            nonce, beacon = _read_ask(body if body is not None else b"")
        except FormatError:
            await reply(send, 400, TEXT, b"malformed\n")
            return
        if self._attesting:
            await reply(send, 429, TEXT, b"busy\n")
            return
        self._attesting = True
        try:
            answer = await self._enclave.attest(nonce=nonce, beacon=beacon)
        except Error:
            await reply(send, 503, TEXT, b"no quote\n")
        else:
            await reply(send, 200, CBOR, answer)
        finally:
            self._attesting = False

    async def _answer_provision(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(receive, COSE_MAX)
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        receipt = None
        if body is not None and kinds == [COSE.encode()] and self._judged < JUDGED_MAX:
            self._judged += 1
            try:
                with contextlib.suppress(Exception):  # whatever it was, the answer is the same
                    receipt = await self._enclave.provision(body)
            finally:
                self._judged -= 1
        if receipt is None:
            await reply(send, 403, TEXT, b"refused")
        else:
            await reply(send, 200, COSE, receipt)

    async def _body(self, receive: Receive, limit: int) -> bytes | None:
        """Return a whole body of at most `limit` bytes that came in time, else None."""
        ticket = object()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT_S) as timeout:
                self._uploads[ticket] = timeout
                if len(self._uploads) > UPLOADS_MAX:
                    end_oldest(self._uploads)
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    size += len(message.get("body", b""))
                    if size > limit:
                        return None
                    parts.append(message.get("body", b""))
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return None
        finally:
            self._uploads.pop(ticket, None)


def _read_ask(body: bytes) -> tuple[bytes | None, bytes | None]:
    """Return nonce and beacon digest of a POST evidence; raises FormatError."""
    fields = take_map(
        cbor.decode(body, max_bytes=ASK_MAX, what="request for evidence"),
        what="request for evidence",
        reason="enclave.request.malformed",
        required={},
        optional={"nonce": 32, "beacon": str},
    )
    return fields.get("nonce"), beacon_digest(fields["beacon"]) if "beacon" in fields else None


def _is_oversize(scope: Scope) -> bool:
    """Return whether a head is longer than HEADERS_MAX, as it is written in HTTP/1.1."""
    fields = sum(len(name) + len(value) + 4 for name, value in scope.get("headers", ()))
    path = scope.get("raw_path") or scope["path"]  # decoded it is up to nine times as short
    return fields + len(path) + len(scope.get("query_string", b"")) > HEADERS_MAX


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await reply(send, 503, TEXT, b"not serving\n")
    else:
        await refuse_socket(scope, receive, send, 503)
