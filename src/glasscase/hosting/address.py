"""Where an instance listens, and the names under which its certificate is good.

Invariants: no two instances are given one port; a port that the system has chosen stays with its instance as long as it is free.
Source: docs/operating.md, "Launch".
"""

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from glasscase.errors import Error, FormatError, UsageError
from glasscase.evidence.attestation import check_san
from glasscase.hosting import processes, state
from glasscase.hosting.state import Place
from glasscase.ratls.link import canonical_name

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"(\*\.)?({_LABEL}\.)*(?![0-9]+$){_LABEL}", re.IGNORECASE)  # RFC 1123, and `_` as in use


def require_free(state_directory: Path, place: Place, *, host: str, port: int) -> None:
    """Return if an instance can listen there; port 0 is any.

    Raises UsageError("hosting.port.taken") if another instance or program has the port, ("hosting.port.denied") if this account
    may not have it, ("hosting.host.unknown") if this machine does not have the address.
    """
    for other in state.places(state_directory) if port else ():
        if other.path != place.path and port in _ports_of(other):
            raise _taken(host, port, f"instance {other.name!r} uses it")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise UsageError(
                "hosting.host.unknown",
                f"this machine has no address {host}",
                # where the default is missing there is IPv6 only
                hint="--host ::1, or :: for all" if host == "127.0.0.1" else "--host 127.0.0.1, or 0.0.0.0 for all",
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UsageError(
                "hosting.port.denied",
                f"this account may not listen on port {port} of {host}",
                hint="a --port of 1024 or more, or 0",
            ) from None
        raise _taken(host, port, (error.strerror or "it cannot be bound").lower()) from None


def port_again(state_directory: Path, place: Place, *, host: str) -> int:
    """Return the port that the system has chosen for an instance that is stopped, if it is still free; else 0."""
    port = place.chosen_port()
    try:
        require_free(state_directory, place, host=host, port=port)
    except UsageError:
        return 0
    return port


def certificate_names(host: str, san: Sequence[str]) -> tuple[str, ...]:
    """Return the names for the certificate: those asked for, the host, and the loopback names if it is reachable there.

    Raises UsageError("hosting.san.malformed").
    """
    local = host in ("0.0.0.0", "::", "127.0.0.1", "::1", "localhost")  # noqa: S104 - compared, not bound
    wildcard = host in ("0.0.0.0", "::")  # noqa: S104
    names = [*san, *([] if wildcard else [host]), *(["localhost", "127.0.0.1", "::1"] if local else [])]
    names = list(dict.fromkeys(canonical_name(name) for name in names))
    try:
        for name in names:
            if not _is_address(name) and not _HOST_NAME.fullmatch(name):
                raise FormatError("hosting.san.malformed", f"{name[:64]!r} is not a host name or address")
        return check_san(names)
    except FormatError as error:
        raise UsageError(
            "hosting.san.malformed", f"--san: {error.message}", hint="host names or addresses, at most 28 of them"
        ) from None


def _is_address(name: str) -> bool:
    try:
        return getattr(ipaddress.ip_address(name), "scope_id", None) is None  # a certificate holds no interface
    except ValueError:
        return False


def _ports_of(other: Place) -> tuple[int, ...]:
    """Return the ports of an instance that runs; none of one whose files cannot be read, for nobody else to be held up by it."""
    try:
        if not processes.is_alive(other.record().process):
            return ()
        status = other.status()
        return other.facts().port, status.port if status else 0
    except Error:
        return ()


def _taken(host: str, port: int, why: str) -> UsageError:
    return UsageError("hosting.port.taken", f"port {port} on {host} is not free: {why}", hint="another --port, or 0")
