"""The ASGI application at the port: glasscase's own endpoints, and the owner's application behind a gate.

Invariants: a path below /.well-known/glasscase is never given to the application, and the application sees nothing before
the state is `serving`; every body has a limit in bytes and in time; a refused envelope has one answer whatever the cause;
requests to the application have a limit that leaves connections over for our own endpoints.
Source: docs/provisioning.md, "Endpoints" and "Limits of the listener".
"""

import asyncio
import contextlib
import json
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Protocol

from glasscase.codec import cbor
from glasscase.codec.record import take_map
from glasscase.enclave.instancefile import beacon_digest
from glasscase.errors import Error, FormatError
from glasscase.seal.cose import COSE_MAX

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Waits = OrderedDict[object, asyncio.Timeout]

PREFIX = "/.well-known/glasscase"
GONE = "glasscase.gone"  # in the scope of a request: what returns whether its client is gone
ASK_MAX = 64 * 1024  # bytes of a POST evidence
UPLOADS_MAX = 64  # bodies of POST requests that may be on their way; one more ends the oldest
JUDGED_MAX = 64  # envelopes that may wait for their answer; one more is refused
RUNNING_MAX = 1536  # requests and WebSockets that the application has; leaves 512 of CONNECTIONS_MAX
UPLOAD_TIMEOUT_S = 30.0
END_S = 1.0  # seconds for what is told to end: for an idle WebSocket's client to have room for the close frame, and to be gone
GONE_S = 0.05  # seconds for an application to see by itself that its client is gone
_BUSY = b"too many requests are running\n"
_CBOR, _COSE, _TEXT = "application/cbor", "application/cose", "text/plain; charset=utf-8"


class GoneError(OSError):
    """Raised into an application that goes on with a stream which nobody can get any more, as ASGI 2.4 has it."""


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
        self._body_max = body_max
        self._idle_s = idle_s
        self._application: Application | None = None
        self._state: dict[str, Any] = {}
        self._attesting = False
        self._judged = 0
        self._uploads: Waits = OrderedDict()
        self._running = 0
        self._places: deque[asyncio.Future[None]] = deque()  # of requests that wait for another to end
        self._bodies: Waits = OrderedDict()  # requests of which the application waits for a part, longest first
        self._talks: OrderedDict[_Talk, float] = OrderedDict()  # when the last message passed, longest ago first

    def open(self, application: Application, state: dict[str, Any]) -> None:
        """Let requests through to the application. state: what its lifespan left for the scope of each request."""
        self._application, self._state = application, state

    def close(self) -> None:
        """Let no further request through."""
        self._application = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or connection of a client that may use the application."""
        if self._application is None or scope["type"] != "http" or scope["path"].startswith(PREFIX):
            await self.answer(scope, receive, send, welcome=True)
        else:  # the common case, with one call less
            scope["state"] = dict(self._state)
            await self._pass_on(scope, receive, send, self._application)

    async def answer(self, scope: Scope, receive: Receive, send: Send, *, welcome: bool) -> None:
        """Answer one request. welcome: whether this client may use the application (mutual TLS)."""
        path = scope["path"]
        if path.startswith(PREFIX) and (path == PREFIX or path.startswith(PREFIX + "/")):
            if scope["type"] == "http":
                await self._answer_own(scope, receive, send)
            else:
                await _refuse_socket(scope, receive, send, 404)
        elif self._application is None:
            await _unavailable(scope, receive, send)
        elif not welcome:
            if scope["type"] == "http":
                await _reply(send, 403, _TEXT, b"a client certificate is required\n")
            else:
                await _refuse_socket(scope, receive, send, 403)
        else:
            scope["state"] = dict(self._state)
            if scope["type"] == "http":
                await self._pass_on(scope, receive, send, self._application)
            else:
                await self._talk(scope, receive, send, self._application)

    async def _answer_own(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = (scope["method"], scope["path"].removeprefix(PREFIX + "/"))
        if request == ("GET", "evidence"):
            await _reply(send, 200, _CBOR, await self._enclave.evidence())
        elif request == ("GET", "status"):
            await _reply(send, 200, "application/json", json.dumps(self._enclave.status()).encode() + b"\n")
        elif request == ("POST", "evidence"):
            await self._answer_attest(receive, send)
        elif request == ("POST", "provision"):
            await self._answer_provision(scope, receive, send)
        elif request[1] in ("evidence", "status", "provision"):
            await _reply(send, 405, _TEXT, b"method not allowed\n")
        else:
            await _reply(send, 404, _TEXT, b"not found\n")

    async def _answer_attest(self, receive: Receive, send: Send) -> None:
        body = await self._body(receive, ASK_MAX)
        try:
            nonce, beacon = _read_ask(body if body is not None else b"")
        except FormatError:
            await _reply(send, 400, _TEXT, b"malformed\n")
            return
        if self._attesting:
            await _reply(send, 429, _TEXT, b"busy\n")
            return
        self._attesting = True
        try:
            answer = await self._enclave.attest(nonce=nonce, beacon=beacon)
        except Error:
            await _reply(send, 503, _TEXT, b"no quote\n")
        else:
            await _reply(send, 200, _CBOR, answer)
        finally:
            self._attesting = False

    async def _answer_provision(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await self._body(receive, COSE_MAX)
        kinds = [value for name, value in scope["headers"] if name == b"content-type"]
        receipt = None
        if body is not None and kinds == [_COSE.encode()] and self._judged < JUDGED_MAX:
            self._judged += 1
            try:
                with contextlib.suppress(Exception):  # whatever it was, the answer is the same
                    receipt = await self._enclave.provision(body)
            finally:
                self._judged -= 1
        if receipt is None:
            await _reply(send, 403, _TEXT, b"refused")
        else:
            await _reply(send, 200, _COSE, receipt)

    async def _body(self, receive: Receive, limit: int) -> bytes | None:
        """Return a whole body of at most `limit` bytes that came in time, else None."""
        ticket = object()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(UPLOAD_TIMEOUT_S) as timeout:
                self._uploads[ticket] = timeout
                if len(self._uploads) > UPLOADS_MAX:
                    _end_oldest(self._uploads)
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

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, application: Application) -> None:
        """Run the application with a limit on the request body; most requests have none."""
        length = b"unknown" if scope["http_version"] == "2" else b""
        for name, value in scope["headers"]:
            if name in (b"content-length", b"transfer-encoding"):
                length = value
                if name == b"content-length" and int(value) > self._body_max:
                    await _reply(send, 413, _TEXT, b"the body is too long\n")
                    return
        if not await self._take_place():
            await _reply(send, 503, _TEXT, _BUSY)
            return
        if length:
            limited = _Limited(receive, send, self._bodies, body_max=self._body_max, idle_s=self._idle_s)
            receive, send = limited.receive, limited.send
        try:
            await application(scope, receive, partial(_send_on, send, scope[GONE]))
        except GoneError:  # the server notes the end of the connection by itself
            pass
        finally:
            self._leave_place()

    async def _talk(self, scope: Scope, receive: Receive, send: Send, application: Application) -> None:
        """Run the application with one WebSocket."""
        if not await self._take_place():
            await _refuse_socket(scope, receive, send, 503)
            return
        talk = _Talk(receive, send, self._talks, scope[GONE])
        try:
            await application(scope, talk.receive, talk.send)
        except GoneError:
            pass
        finally:
            self._leave_place()
            self._talks.pop(talk, None)

    async def _take_place(self) -> bool:
        """Return whether the application may be given one more, if need be once another that was told to end has ended."""
        if self._running >= RUNNING_MAX:
            if not await self._make_room():
                return False
            if self._running >= RUNNING_MAX:
                return await self._wait_for_place()
        self._running += 1
        return True

    async def _wait_for_place(self) -> bool:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._places.append(place)
        try:
            await asyncio.wait({place}, timeout=END_S)
        except asyncio.CancelledError:
            if place.done():
                self._leave_place()
            raise
        finally:
            place.cancel()  # if nobody has left
        return not place.cancelled()

    def _leave_place(self) -> None:
        """Hand the place of what has ended to the one that has waited longest for it, if any."""
        while self._places:
            place = self._places.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._running -= 1

    async def _make_room(self) -> bool:
        """End a request of which the application waits for a part of the body, longest, else a WebSocket that is idle.

        Return whether there was one. What the application is working on is never ended.
        """
        if _end_oldest(self._bodies):
            return True
        for talk, last in self._talks.items():
            if last + self._idle_s > asyncio.get_running_loop().time():
                break
            return await talk.end()
        return False


class _Limited:
    """One request's receive and send with limits on its body; what is above them looks like a disconnect to the app."""

    def __init__(self, receive: Receive, send: Send, waits: Waits, *, body_max: int, idle_s: float) -> None:
        self._receive = receive
        self._send = send
        self._waits = waits
        self._left = body_max
        self._idle_s = idle_s
        self._complete = False
        self._started = False
        self._ended = False

    async def receive(self) -> Message:
        if self._ended:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._idle_s) as timeout:
                if not self._started:
                    self._waits[self] = timeout
                message = await self._receive()
        except TimeoutError:
            return await self._end(408, b"the body did not come in time\n")
        finally:
            self._waits.pop(self, None)
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._left < 0:
                return await self._end(413, b"the body is too long\n")
        return message

    async def send(self, message: Message) -> None:
        if self._ended:
            await _drop(message)
        else:
            self._started = True
            await self._send(message)

    async def _end(self, status: int, text: bytes) -> Message:
        self._ended = True
        if not self._started:
            await _reply(self._send, status, _TEXT, text, close=True)
        return {"type": "http.disconnect"}


class _Talk:
    """One WebSocket's receive and send, which note when a message passed; its end looks like the client's to the app."""

    def __init__(
        self, receive: Receive, send: Send, talks: OrderedDict["_Talk", float], gone: Callable[[], bool]
    ) -> None:
        self._receive = receive
        self._send = send
        self._gone = gone
        self._talks = talks
        self._ended = False
        self._note()

    async def receive(self) -> Message:
        message = await self._receive()
        self._note()
        return message

    async def send(self, message: Message) -> None:
        if self._ended:
            await _drop(message)
        else:
            await _send_on(self._send, self._gone, message)
            self._note()

    async def end(self) -> bool:
        """Close it with code 1013, try again later; return whether that could be said, or it was gone."""
        self._ended = True
        self._talks.pop(self, None)
        try:
            async with asyncio.timeout(END_S):
                with contextlib.suppress(Exception):  # it may be gone
                    await self._send({"type": "websocket.close", "code": 1013})
        except TimeoutError:  # a client that does not read; the listener's pings end it
            self._ended = False
            return False
        return True

    def _note(self) -> None:
        if not self._ended:
            self._talks[self] = asyncio.get_running_loop().time()
            self._talks.move_to_end(self)


async def _send_on(send: Send, gone: Callable[[], bool], message: Message) -> None:
    """Send a message of an application, whose stream ends with its client."""
    if gone():
        await _drop(message)
    await send(message)


async def _drop(message: Message) -> None:
    """Raise GoneError for a part of a stream: the server would not wait for a client that is gone, and the loop stand still."""
    if message.get("more_body", False) or message["type"] == "websocket.send":
        await asyncio.sleep(GONE_S)
        raise GoneError


def _end_oldest(waits: Waits) -> bool:
    """Let the wait that began first end now; return whether there was one that had not ended by itself."""
    while waits:
        _, oldest = waits.popitem(last=False)
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())
            return True
    return False


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


async def _reply(send: Send, status: int, kind: str, body: bytes, *, close: bool = False) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await _reply(send, 503, _TEXT, b"not serving\n")
    else:
        await _refuse_socket(scope, receive, send, 503)


async def _refuse_socket(scope: Scope, receive: Receive, send: Send, status: int) -> None:
    """Refuse a WebSocket with an HTTP status where the server can do that, else by closing it, which is 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close", "code": 1013})
