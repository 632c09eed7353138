"""ASGI as this server speaks it: its types, its own word for a client that is gone, and short answers.

Invariants: a short answer is never cached; a WebSocket is refused only after its connect event, as ASGI has it.
Source: ASGI 3.0 and its HTTP & WebSocket protocol 2.4.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

GONE = "glasscase.gone"  # in the scope of a request: what returns whether its client is gone
CBOR, COSE, TEXT = "application/cbor", "application/cose", "text/plain; charset=utf-8"


class GoneError(OSError):
    """Raised into an application that goes on with a stream which nobody can get any more, as ASGI 2.4 has it."""


async def reply(send: Send, status: int, kind: str, body: bytes, *, close: bool = False) -> None:
    """Answer with a whole body. close: that the connection ends with it."""
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse_socket(scope: Scope, receive: Receive, send: Send, status: int) -> None:
    """Refuse a WebSocket with an HTTP status where the server can do that, else by closing it, which is 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close", "code": 1013})
