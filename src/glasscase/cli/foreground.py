"""`run --foreground`: the log is shown until the enclave ends or a signal asks for its end, as service managers want it.

Invariants: whatever ends the command ends the enclave; a clean end that was asked for is exit code 0.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape
from glasscase.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from glasscase.hosting.starting import Started

STOP_S = 45


def stay(out: Output, started: "Started", show: Callable[[], None]) -> int:
    """Show what was started, and return the exit code when the enclave has ended: 0 if it has stopped cleanly, else 4."""
    from glasscase.hosting import logs

    try:
        show()
        notify("READY=1")  # from here on the other side may ask for the end
        with contextlib.suppress(UsageError):
            for line in logs.lines(started.place, follow=True):
                out.say(escape(line))
    except (Interrupted, KeyboardInterrupt) as error:
        notify("STOPPING=1")
        out.say(str(error.args[0]) if error.args else "stopped by SIGINT")
        end(started)
    if not started.place.path.exists():  # stopped and removed by another command
        return exitcodes.OK
    found = started.place.status()
    return exitcodes.OK if found is not None and found.state == "stopped" else exitcodes.IO


def end(started: "Started") -> None:
    """Stop the enclave of a command that ends, if it still runs; one that has crashed stays `failed`.

    An instance that another command has removed is no error.
    """
    from glasscase.hosting import state, stopping

    with contextlib.suppress(UsageError), state.locked(started.place, wait_s=STOP_S):
        if started.place.record().process == started.record.process:  # else another command has started it anew
            stopping.finish(started.place, started.record)


def notify(message: str) -> None:
    """Tell systemd, if it has started us with Type=notify: one datagram to the socket that NOTIFY_SOCKET names (sd_notify)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode("ascii"), "\0" + address[1:] if address[0] == "@" else address)
