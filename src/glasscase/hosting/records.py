"""The files that describe an instance: what is in them, and the strict reading of each.

Invariants: what is not exactly of the form is refused; a file of a newer version says so.
Source: docs/operating.md, "Directories".
"""

from dataclasses import dataclass
from typing import Any

from glasscase.codec import hexid, strictjson
from glasscase.codec.record import check_version, take_map
from glasscase.errors import FormatError
from glasscase.hosting.processes import ProcessId

RECORD_MAX = 64 * 1024  # bytes of state.json, facts.json, instance.json and status.json
BACKENDS = ("gramine-sgx", "gramine-direct", "simulator")
ENCLAVE_STATES = ("booted", "waiting", "provisioning", "serving", "failed", "stopped")


@dataclass(frozen=True)
class InstanceRecord:
    """What state.json says. state: `starting`, `running` or `stopped`, as the operator's commands left it."""

    name: str
    backend: str
    bundle: str
    bundle_id: bytes
    mrenclave: bytes
    process: ProcessId
    since: int
    state: str

    def to_bytes(self) -> bytes:
        """Return the bytes of state.json."""
        return strictjson.write(
            {
                "v": 1,
                "name": self.name,
                "backend": self.backend,
                "bundle": self.bundle,
                "bundle_id": self.bundle_id.hex(),
                "mrenclave": self.mrenclave.hex(),
                "pid": self.process.pid,
                "pid_start": self.process.start,
                "boot_id": self.process.boot_id,
                "since": self.since,
                "state": self.state,
            }
        )

    @staticmethod
    def from_bytes(raw: bytes) -> "InstanceRecord":
        """Return the record of a state.json; raises FormatError("hosting.state.malformed")."""
        fields = _object(
            raw,
            what="state.json",
            reason="hosting.state.malformed",
            required={
                "name": str, "backend": str, "bundle": str, "bundle_id": str, "mrenclave": str, "pid": int,
                "pid_start": int, "boot_id": str, "since": int, "state": str,
            },
        )  # fmt: skip
        if fields["backend"] not in BACKENDS:
            raise FormatError(
                "hosting.state.malformed",
                f"state.json has the unknown backend {fields['backend']!r}",
                what="state.json",
            )
        if fields["pid"] == 1:  # an enclave never is, and a signal to its group would reach every process
            raise FormatError(
                "hosting.state.malformed", "state.json names process 1, which is no enclave", what="state.json"
            )
        return InstanceRecord(
            fields["name"],
            fields["backend"],
            fields["bundle"],
            hexid.from_hex(fields["bundle_id"], 32, "bundle_id"),
            hexid.from_hex(fields["mrenclave"], 32, "mrenclave"),
            ProcessId(fields["pid"], fields["pid_start"], fields["boot_id"]),
            fields["since"],
            fields["state"],
        )


@dataclass(frozen=True)
class EnclaveStatus:
    """What status.json says: the enclave's own word, written through a directory that the host controls."""

    state: str
    port: int
    since: int
    seq: int
    exp: int

    @staticmethod
    def from_bytes(raw: bytes) -> "EnclaveStatus":
        """Return the status of a status.json; raises FormatError("hosting.state.malformed")."""
        fields = _object(
            raw,
            what="status.json",
            reason="hosting.state.malformed",
            required={"state": str, "port": int, "since": int, "seq": int, "exp": int},
        )
        if fields["state"] not in ENCLAVE_STATES or fields["port"] > 65535:
            raise FormatError(
                "hosting.state.malformed", "status.json has a state or port that there is none", what="status.json"
            )
        return EnclaveStatus(**fields)


@dataclass(frozen=True)
class InstanceFacts:
    """The unmeasured facts of one instance: instance.json for the enclave, facts.json for the operator's own commands.

    beacon: the verbatim TCB info object, hashed inside.
    """

    port: int
    host: str
    san: tuple[str, ...]
    timeout: int
    beacon: str | None = None

    def to_bytes(self) -> bytes:
        """Return the bytes of either file."""
        value: dict[str, Any] = {"port": self.port, "host": self.host, "san": list(self.san), "timeout": self.timeout}
        if self.beacon is not None:
            value["beacon"] = self.beacon
        return strictjson.write(value)

    @staticmethod
    def from_bytes(raw: bytes) -> "InstanceFacts":
        """Return the facts of a facts.json that `run` wrote; raises FormatError("hosting.state.malformed")."""
        value = strictjson.parse(raw, max_bytes=RECORD_MAX, what="facts.json")
        fields = take_map(
            value,
            what="facts.json",
            reason="hosting.state.malformed",
            required={"port": int, "host": str, "san": list, "timeout": int},
            optional={"beacon": str},
        )
        san = tuple(str(name) for name in fields["san"])
        return InstanceFacts(fields["port"], fields["host"], san, fields["timeout"], fields.get("beacon"))


def _object(raw: bytes, *, what: str, reason: str, required: dict[str, type]) -> dict[str, Any]:
    value = strictjson.parse(raw, max_bytes=RECORD_MAX, what=what)
    check_version(value, what=what, reason=reason)
    fields = take_map(value, what=what, reason=reason, required={"v": int, **required}, optional={})
    del fields["v"]
    return fields
