"""What the operator says about one instance, and what the instance says to him: instance.json, beacon, status.json.

Invariants: nothing in these files is trusted; instance.json is read once with a cap; an unknown key ends the program.
Source: docs/provisioning.md, "Instance files".
"""

import hashlib
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.hexid import from_hex
from glasscase.codec.record import take_list, take_map
from glasscase.errors import Error, FormatError, StorageError
from glasscase.evidence.attestation import SAN_MAX, check_san
from glasscase.fs.atomic import read_file, write_file

INSTANCE_MAX = 64 * 1024  # bytes of instance.json and of a beacon
TIMEOUT_MAX_S = 30 * 86400
_REASON = "enclave.instance.malformed"
_HOST = re.compile(r"[0-9A-Fa-f.:]{1,45}|localhost", re.ASCII)


@dataclass(frozen=True)
class InstanceFile:
    """instance.json. port: 0 for any. timeout: seconds to wait for secrets. nonce: 32 bytes; beacon: SHA-256, 32 bytes."""

    port: int
    host: str
    san: tuple[str, ...]
    timeout: int
    nonce: bytes | None = None
    beacon: bytes | None = None


def read_instance(directory: str) -> InstanceFile:
    """Return the operator's facts; raises FormatError("enclave.instance.malformed") or StorageError."""
    data = read_file(os.path.join(directory, "instance.json"), max_bytes=INSTANCE_MAX, what="instance.json")
    return parse_instance(data)


def parse_instance(data: bytes) -> InstanceFile:
    """Return the facts in the bytes of instance.json; raises FormatError("enclave.instance.malformed")."""
    try:
        fields = take_map(
            strictjson.parse(data, max_bytes=INSTANCE_MAX, what="instance.json"),
            what="instance.json",
            reason=_REASON,
            required={"port": int, "host": str, "san": list, "timeout": int},
            optional={"nonce": str, "beacon": str},
        )
        san = check_san(
            [_canonical(name) for name in take_list(fields["san"], str, what="san", reason=_REASON, limit=SAN_MAX)]
        )
        nonce = from_hex(fields["nonce"], 32, "nonce") if "nonce" in fields else None
    except FormatError as error:
        raise FormatError(_REASON, error.message) from None
    if fields["port"] > 65535:
        raise FormatError(_REASON, f"port {fields['port']} is above 65535")
    if not _HOST.fullmatch(fields["host"]):
        raise FormatError(_REASON, f"host {fields['host'][:64]!r} is not an address")
    if not 1 <= fields["timeout"] <= TIMEOUT_MAX_S:
        raise FormatError(_REASON, f"timeout {fields['timeout']} is not between 1 and {TIMEOUT_MAX_S} seconds")
    beacon = beacon_digest(fields["beacon"]) if "beacon" in fields else None
    return InstanceFile(fields["port"], fields["host"], san, fields["timeout"], nonce, beacon)


def _canonical(name: str) -> str:
    """Return an IP address in its one spelling, which is how it comes back out of a certificate; a host name as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def beacon_digest(text: str) -> bytes:
    """Return SHA-256 of the beacon's text as it was given: hashed, never parsed."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def read_beacon(directory: str) -> bytes | None:
    """Return the digest of the text in the file `beacon`, or None if it is absent, unreadable, empty or too long."""
    try:
        data = read_file(os.path.join(directory, "beacon"), max_bytes=INSTANCE_MAX, what="beacon")
        text = data.decode("utf-8")
    except (Error, UnicodeDecodeError):
        return None
    return beacon_digest(text) if text else None


def write_status(directory: str, status: dict[str, Any]) -> bool:
    """Write status.json, whole or not at all; return whether the disk let us."""
    try:
        write_file(os.path.join(directory, "status.json"), strictjson.write({"v": 1, **status}))
    except StorageError:
        return False
    return True
