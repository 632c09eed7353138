"""The address in a URL of an enclave.

Invariants: what comes back is a host that can be looked up and a port of TCP, as they stand in the URL; a URL of another form is
refused, and shown without its password.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from glasscase.codec.printable import url_without_login
from glasscase.errors import UsageError

PORT_MAX = 65535
HTTPS_PORT = 443
_PLACE = re.compile(r"(?:\[[^\[\]@]*:[^\[\]@]*\]|[^\[\]:@]+)(?::[0-9]*)?")  # [IPv6] or a name, and perhaps a port


@dataclass(frozen=True)
class Address:
    """Where to go. host without brackets; path, query: as in the URL, perhaps empty."""

    host: str
    port: int
    path: str
    query: str


def read_url(url: object) -> Address:
    """Return the address in an https URL; raises UsageError("client.url.malformed") for anything else."""
    if not isinstance(url, str):
        raise _malformed(f"a URL is text, not {type(url).__name__}")
    shown = repr(url_without_login(url))
    try:
        parts = urlsplit(url)
        port = HTTPS_PORT if parts.port is None else parts.port
    except ValueError:
        raise _malformed(f"{shown} is not a URL") from None
    if parts.scheme != "https" or not parts.hostname or not _is_plain(url, parts):
        raise _malformed(f"{shown} is not an https URL of a host")
    if not is_place(parts.hostname, port):
        raise _malformed(f"{shown} does not name a host and a port from 1 to {PORT_MAX}")
    return Address(parts.hostname, port, parts.path, parts.query)


def is_place(host: str, port: int) -> bool:
    """Return whether this is a host that can be looked up and a port of TCP: 70000 would be 4464 to the system."""
    try:
        host.encode("idna")  # as connecting does
    except UnicodeError:
        return False
    return 0 < port <= PORT_MAX and host != "" and host.isprintable() and " " not in host


def _is_plain(url: str, parts: SplitResult) -> bool:
    """Return whether urlsplit has passed over nothing: line ends, a login, what stands beside brackets."""
    return url.isprintable() and " " not in url and _PLACE.fullmatch(parts.netloc) is not None


def _malformed(message: str) -> UsageError:
    return UsageError("client.url.malformed", message, hint="https://HOST:PORT/PATH")
