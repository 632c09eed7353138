"""The requests and WebSockets that the application has: how many, how long and how large.

Invariants: the application never has more than RUNNING_MAX, which leaves connections over for our own endpoints; every body has
a limit in bytes and in time; what the application is working on is never ended for a new request.
Source: docs/provisioning.md, "Limits of the listener".
"""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable
from functools import partial

from glasscase.enclave.asgi import (
    GONE,
    TEXT,
    Application,
    GoneError,
    Message,
    Receive,
    Scope,
    Send,
    refuse_socket,
    reply,
)

Waits = OrderedDict[object, asyncio.Timeout]

RUNNING_MAX = 1536  # requests and WebSockets that the application has; leaves 512 of CONNECTIONS_MAX
END_S = 1.0  # seconds for what is told to end: for an idle WebSocket's client to have room for the close frame, and to be gone
GONE_S = 0.05  # seconds for an application to see by itself that its client is gone
BUSY = b"too many requests are running\n"


class Running:
    """What the application has, `count` of them. body_max: bytes of a request body; idle_s: seconds between two parts of it."""

    def __init__(self, *, body_max: int, idle_s: float) -> None:
        self._body_max = body_max
        self._idle_s = idle_s
        self.count = 0
        self._places: deque[asyncio.Future[None]] = deque()  # of requests that wait for another to end
        self._bodies: Waits = OrderedDict()  # requests of which the application waits for a part, longest first
        self._talks: OrderedDict[_Talk, float] = OrderedDict()  # when the last message passed, longest ago first

    async def request(self, scope: Scope, receive: Receive, send: Send, application: Application) -> None:
        """Run the application with a limit on the request body; most requests have none."""
        length = b"unknown" if scope["http_version"] == "2" else b""
        for name, value in scope["headers"]:
            if name in (b"content-length", b"transfer-encoding"):
                length = value
                if name == b"content-length" and int(value) > self._body_max:
                    await reply(send, 413, TEXT, b"the body is too long\n")
                    return
        if not await self._take_place():
            await reply(send, 503, TEXT, BUSY)
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

    async def websocket(self, scope: Scope, receive: Receive, send: Send, application: Application) -> None:
        """Run the application with one WebSocket."""
        if not await self._take_place():
            await refuse_socket(scope, receive, send, 503)
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
        if self.count >= RUNNING_MAX:
            if not await self._make_room():
                return False
            if self.count >= RUNNING_MAX:
                return await self._wait_for_place()
        self.count += 1
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
        self.count -= 1

    async def _make_room(self) -> bool:
        """End a request of which the application waits for a part of the body, longest, else a WebSocket that is idle.

        Return whether there was one. What the application is working on is never ended.
        """
        if end_oldest(self._bodies):
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
                may_end = not self._started
                if may_end:
                    self._waits[self] = timeout
                message = await self._receive()
                if may_end and self not in self._waits:
                    raise TimeoutError  # it was told to end as the part came, and another waits for its place
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
            await reply(self._send, status, TEXT, text, close=True)
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


def end_oldest(waits: Waits) -> bool:
    """Let the wait that began first end now; return whether there was one that had not ended by itself."""
    while waits:
        _, oldest = waits.popitem(last=False)
        if not oldest.expired():
            oldest.reschedule(asyncio.get_running_loop().time())
            return True
    return False
