"""The SGX extension of a PCK certificate: which platform it is and at which TCB.

Invariants: a platform CA's extension has seven entries, a processor CA's the first five.
Source: Intel SGX PCK Certificate Profile Specification, "SGX Extensions"; docs/checks.md, area pck.
"""

from dataclasses import dataclass

from glasscase.sim import der
from glasscase.sim.pki import OID_SGX, Extension

FMSPC = bytes.fromhex("53494d554c41")  # "SIMULA"
PCE_ID = bytes(2)


@dataclass(frozen=True)
class PlatformTcb:
    """The SVNs that a PCK certificate states. components: 16 numbers 0..255; cpu_svn: 16 bytes."""

    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes


CURRENT_TCB = PlatformTcb(
    components=(16, 16, 3, 3, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    pce_svn=15,
    cpu_svn=bytes((16, 16, 3, 3, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
)


def entry(number: str, value: bytes) -> bytes:
    """Return one entry of the extension: its id under the SGX arc, then the encoded value."""
    return der.sequence(der.oid(f"{OID_SGX}.{number}"), value)


def tcb_entries(tcb: PlatformTcb) -> tuple[bytes, ...]:
    """Return the 18 entries of the TCB sequence."""
    components = (entry(f"2.{index}", der.integer(svn)) for index, svn in enumerate(tcb.components, 1))
    return (*components, entry("2.17", der.integer(tcb.pce_svn)), entry("2.18", der.octet_string(tcb.cpu_svn)))


def sgx_entries(
    tcb: PlatformTcb, *, ppid: bytes, instance_id: bytes | None, fmspc: bytes = FMSPC, pce_id: bytes = PCE_ID
) -> tuple[bytes, ...]:
    """Return the entries of the extension; instance_id None gives the five of a processor CA.

    ppid and instance_id: 16 bytes; fmspc: 6; pce_id: 2.
    """
    entries = (
        entry("1", der.octet_string(ppid)),
        entry("2", der.sequence(*tcb_entries(tcb))),
        entry("3", der.octet_string(pce_id)),
        entry("4", der.octet_string(fmspc)),
        entry("5", der.enumerated(0 if instance_id is None else 1)),
    )
    if instance_id is None:
        return entries
    flags = (entry(f"7.{index}", der.boolean(value)) for index, value in enumerate((True, False, False), 1))
    return (*entries, entry("6", der.octet_string(instance_id)), entry("7", der.sequence(*flags)))


def sgx_extension(entries: tuple[bytes, ...]) -> Extension:
    """Return the extension that holds these entries; Intel does not mark it critical."""
    return Extension(OID_SGX, der.sequence(*entries))
