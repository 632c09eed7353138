"""The application's own health path, asked inside before the state becomes `serving`.

Invariants: a project without a health path is not asked; one with it serves only after the application has answered 2xx or 3xx.
Source: docs/provisioning.md, "Serving".
"""

import asyncio
import contextlib
from typing import Any

from glasscase.enclave.asgi import GONE, Application, Message
from glasscase.errors import UsageError

DEADLINE_S = 30.0  # seconds for the first good answer
RETRY_S = 0.5


async def require_health(application: Application, path: str, *, host: str, state: dict[str, Any]) -> None:
    """Return when GET `path` answers 2xx or 3xx. host: of the request; state: what the lifespan left.

    Raises UsageError("enclave.app.unhealthy") if it does not within the deadline.
    """
    status = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status = await _ask(application, path, host, state)
                if 200 <= status < 400:
                    return
                await asyncio.sleep(RETRY_S)
    raise UsageError("enclave.app.unhealthy", f"the application's health path answered {status or 'nothing'}")


async def _ask(application: Application, path: str, host: str, state: dict[str, Any]) -> int:
    """Return the status of one request to the application, 0 if it raised or did not answer."""
    statuses: list[int] = []
    over = asyncio.Event()
    parts: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if parts:
            return parts.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(message["status"]))
        elif not message.get("more_body", False):
            over.set()

    path_only, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "https", "path": path_only, "raw_path": path_only.encode(), "query_string": query.encode(),
        "root_path": "", "headers": [(b"host", host.encode())], "client": None, "server": (host, 443),
        "state": dict(state), GONE: lambda: False,
    }  # fmt: skip
    try:
        await application(scope, receive, send)
    except Exception:  # noqa: BLE001 - an application that raises is not healthy
        return 0
    return statuses[0] if statuses else 0
