"""Faults of the SGX extension and of the platform's TCB.

Source: docs/checks.md, areas pck.sgx, tcbinfo and platform.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from glasscase.sim import der, pki
from glasscase.sim.fault_model import Change, Fault, append_inside, long_length
from glasscase.sim.pck import CURRENT_TCB, PlatformTcb, entry, sgx_entries, tcb_entries
from glasscase.sim.scene import Scene, pck_entries

Entries = tuple[bytes, ...]


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    yield from (Fault(f"sgx-{what}", "pck.sgx.malformed", _entries(change)) for what, change in _entry_faults())
    yield from (Fault(f"sgx-{what}", "pck.sgx.malformed", _tcb(change)) for what, change in _tcb_faults())
    for what, change in _der_faults():
        yield Fault(f"sgx-{what}", "pck.sgx.malformed", change)
    yield Fault("sgx-missing", "pck.sgx.missing", _without)
    yield Fault("sgx-type-unknown", "pck.sgx.bad_type", _entries(lambda e: _put(e, 4, entry("5", der.enumerated(3)))))
    yield Fault("sgx-five-entries-of-platform-ca", "pck.sgx.ca_mismatch", _processor_entries)
    yield Fault("pck-other-fmspc", "tcbinfo.fmspc.mismatch",
                _entries(lambda e: _put(e, 3, entry("4", der.octet_string(b"OTHERS")))))  # fmt: skip
    yield Fault("pck-other-pceid", "tcbinfo.pceid.mismatch",
                _entries(lambda e: _put(e, 2, entry("3", der.octet_string(b"\1\0")))))  # fmt: skip
    low = replace(CURRENT_TCB, components=(1,) * 16)
    yield Fault("platform-below-every-level", "platform.tcb.unsupported", lambda scene: set_tcb(scene, low))
    yield Fault("platform-pcesvn-below-every-level", "platform.tcb.unsupported",
                lambda scene: set_tcb(scene, replace(CURRENT_TCB, pce_svn=1)))  # fmt: skip
    yield Fault("platform-one-component-below-every-level", "platform.tcb.unsupported", _one_low_component)


def set_tcb(scene: Scene, tcb: PlatformTcb) -> None:
    """Give the platform a certificate with other SVNs."""
    _set(scene, pck_entries(scene.keys, tcb))


def _entry_faults() -> Iterator[tuple[str, Callable[[Entries], Entries]]]:
    yield "ppid-15", lambda e: _put(e, 0, entry("1", der.octet_string(bytes(15))))
    yield "ppid-17", lambda e: _put(e, 0, entry("1", der.octet_string(bytes(17))))
    yield "ppid-as-integer", lambda e: _put(e, 0, entry("1", der.integer(5)))
    yield "ppid-missing", lambda e: e[1:]
    yield "ppid-twice", lambda e: (e[0], *e[:1], *e[1:])
    yield "ppid-instead-of-instance-id", lambda e: _put(e, 5, e[0])
    yield "tcb-missing", lambda e: (e[0], *e[2:])
    yield "tcb-as-octets", lambda e: _put(e, 1, entry("2", der.octet_string(bytes(16))))
    yield "pceid-three-bytes", lambda e: _put(e, 2, entry("3", der.octet_string(bytes(3))))
    yield "fmspc-five-bytes", lambda e: _put(e, 3, entry("4", der.octet_string(bytes(5))))
    yield "fmspc-missing", lambda e: (*e[:3], *e[4:])
    yield "type-as-integer", lambda e: _put(e, 4, entry("5", der.integer(1)))
    yield "instance-id-15", lambda e: _put(e, 5, entry("6", der.octet_string(bytes(15))))
    yield "configuration-missing", lambda e: e[:6]
    yield "configuration-of-two", lambda e: _put(e, 6, entry("7", der.sequence(*_flags(2))))
    yield "configuration-of-four", lambda e: _put(e, 6, entry("7", der.sequence(*_flags(4))))
    yield "configuration-integer", lambda e: _put(e, 6, e[6].replace(b"\1\1\xff", b"\2\1\x01"))
    yield "eighth-entry", lambda e: (*e, entry("8", der.octet_string(bytes(16))))
    yield "unknown-entry", lambda e: _put(e, 5, entry("9", der.octet_string(bytes(16))))
    yield "entry-of-three", lambda e: _put(e, 0, append_inside(b"\5\0")(e[0]))
    yield "entry-of-other-arc", lambda e: _put(e, 0, e[0].replace(der.oid("1.2.840.113741.1.13.1.1"),
                                                                  der.oid("1.2.840.113741.1.14.1.1")))  # fmt: skip
    yield "six-entries", lambda e: (*e[:5], e[6])


def _tcb_faults() -> Iterator[tuple[str, Callable[[Entries], Entries]]]:
    yield "fifteen-components", lambda t: (*t[:15], *t[16:])
    yield "seventeen-components", lambda t: (*t[:16], entry("2.19", der.integer(0)), *t[16:])
    yield "component-twice", lambda t: _put(t, 1, t[0])
    yield "component-256", lambda t: _put(t, 0, entry("2.1", der.integer(256)))
    yield "component-negative", lambda t: _put(t, 0, entry("2.1", der.integer(-1)))
    yield "component-as-octet", lambda t: _put(t, 0, entry("2.1", der.octet_string(b"\x10")))
    yield "component-huge", lambda t: _put(t, 0, entry("2.1", der.integer(16 + 2**64)))
    yield "pcesvn-65536", lambda t: _put(t, 16, entry("2.17", der.integer(65536)))
    yield "pcesvn-missing", lambda t: (*t[:16], t[17])
    yield "pcesvn-twice", lambda t: _put(t, 17, t[16])
    yield "cpusvn-15", lambda t: _put(t, 17, entry("2.18", der.octet_string(bytes(15))))
    yield "cpusvn-17", lambda t: _put(t, 17, entry("2.18", der.octet_string(bytes(17))))
    yield "cpusvn-missing", lambda t: t[:17]


def _der_faults() -> Iterator[tuple[str, Change]]:
    """What is no DER is refused as an extension before its meaning is looked at."""
    yield "empty", _content(lambda _: b"")
    yield "trailing", _content(lambda content: content + b"\5\0")
    yield "cut", _content(lambda content: content[:-3])
    yield "length-not-minimal", _content(long_length)
    yield "type-two-bytes", _entries(lambda e: _put(e, 4, entry("5", der.tlv(0x0A, b"\0\1"))))
    yield "type-empty", _entries(lambda e: _put(e, 4, entry("5", der.tlv(0x0A, b""))))
    yield "configuration-boolean-one", _entries(lambda e: _put(e, 6, e[6].replace(b"\1\1\xff", b"\1\1\1")))
    yield "entry-length-not-minimal", _entries(lambda e: _put(e, 0, long_length(e[0])))
    yield "component-not-minimal", _tcb(lambda t: _put(t, 0, entry("2.1", der.tlv(2, b"\0\x10"))))
    yield "component-empty", _tcb(lambda t: _put(t, 0, entry("2.1", der.tlv(2, b""))))


def _flags(count: int) -> Iterator[bytes]:
    return (entry(f"7.{index}", der.boolean(True)) for index in range(1, count + 1))


def _put(entries: Entries, index: int, value: bytes) -> Entries:
    return (*entries[:index], value, *entries[index + 1 :])


def _set(scene: Scene, entries: Entries) -> None:
    changed = pki.with_extension(scene.certificates["pck"], pki.OID_SGX, content=der.sequence(*entries))
    scene.certificates["pck"] = changed


def _entries(change: Callable[[Entries], Entries]) -> Change:
    return lambda scene: _set(scene, change(pck_entries(scene.keys)))


def _tcb(change: Callable[[Entries], Entries]) -> Change:
    return _entries(lambda e: _put(e, 1, entry("2", der.sequence(*change(tcb_entries(CURRENT_TCB))))))


def _content(change: Callable[[bytes], bytes]) -> Change:
    def apply(scene: Scene) -> None:
        content = change(der.sequence(*pck_entries(scene.keys)))
        scene.certificates["pck"] = pki.with_extension(scene.certificates["pck"], pki.OID_SGX, content=content)

    return apply


def _without(scene: Scene) -> None:
    scene.certificates["pck"] = pki.without_extension(scene.certificates["pck"], pki.OID_SGX)


def _processor_entries(scene: Scene) -> None:
    _set(scene, sgx_entries(CURRENT_TCB, ppid=scene.keys.pck.derive("ppid", 16), instance_id=None))


def _one_low_component(scene: Scene) -> None:
    """All of a level's components must be met, not most: component 4 is 255 in every level."""
    components = CURRENT_TCB.components
    set_tcb(scene, replace(CURRENT_TCB, components=(*components[:4], 254, *components[5:])))
