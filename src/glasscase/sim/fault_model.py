"""What a fault is, and the small changes of bytes that faults are made of.

Invariants: applying a fault to an honest scene breaks exactly what its name says; every fault names the first check, in the
fixed order of docs/checks.md, that must fail.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from glasscase.sim import der
from glasscase.sim.pki import Certificate, Edit, SigningKey
from glasscase.sim.scene import Scene

Change = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """One named defect. check: the id of the first check that must fail; apply: changes an honest scene."""

    name: str
    check: str
    apply: Change


def flip(position: int, bit: int = 0) -> Edit:
    """Return an edit that changes one bit; a negative position counts from the end."""

    def edit(data: bytes) -> bytes:
        changed = bytearray(data)
        if changed:
            changed[position % len(changed)] ^= 1 << bit
        return bytes(changed)

    return edit


def swap(old: bytes, new: bytes) -> Edit:
    """Return an edit that replaces the first `old` by `new`."""
    return lambda data: data.replace(old, new, 1)


def append(tail: bytes) -> Edit:
    """Return an edit that adds bytes at the end."""
    return lambda data: data + tail


def cut(size: int) -> Edit:
    """Return an edit that drops `size` bytes at the end."""
    return lambda data: data[:-size]


def become(content: bytes) -> Edit:
    """Return an edit that puts other content in the place of what was there."""
    return lambda _: content


def content_of(element: bytes) -> bytes:
    """Return what stands inside an element that our own writer made."""
    width = element[1] & 0x7F if element[1] & 0x80 else 0
    return element[2 + width :]


def append_inside(tail: bytes) -> Edit:
    """Return an edit that adds an element at the end of a SEQUENCE."""
    return lambda data: der.sequence(content_of(data), tail)


def long_length(data: bytes) -> bytes:
    """Return an element whose length is spelt with one byte more than needed."""
    content = content_of(data)
    return bytes([data[0], 0x83]) + len(content).to_bytes(3, "big") + content


def indefinite_length(data: bytes) -> bytes:
    """Return a SEQUENCE of indefinite length, which BER has and DER has not."""
    return bytes([data[0], 0x80]) + content_of(data) + bytes(2)


def other_key() -> SigningKey:
    """Return a key that belongs to nobody."""
    return SigningKey.generate()


def edits(stage: str, change: Edit) -> Change:
    """Return the change of one stage's bytes."""
    return lambda scene: scene.edit(stage, change)


def certificate(name: str, **changes: Any) -> Change:
    """Return the change of fields of a certificate."""
    return lambda scene: scene.certificate(name, **changes)


def certificate_by(name: str, change: Callable[[Certificate], Certificate]) -> Change:
    """Return a change of a certificate by a function."""

    def apply(scene: Scene) -> None:
        scene.certificates[name] = change(scene.certificates[name])

    return apply


def signed_by(part: str, key: Callable[[Scene], SigningKey]) -> Change:
    """Return the change of who signs a part."""

    def apply(scene: Scene) -> None:
        scene.signers[part] = key(scene)

    return apply


def chain(name: str, *certificates: str) -> Change:
    """Return the change of which certificates are handed over in a chain."""

    def apply(scene: Scene) -> None:
        scene.chains[name] = certificates

    return apply


def omit(item: str) -> Change:
    """Return the change that leaves out one object of the collateral."""
    return lambda scene: scene.omitted.add(item)


def copy_certificate(scene: Scene, old: str, new: str, chain_name: str, **changes: Any) -> None:
    """Put a changed copy of a certificate under a new name, and into one chain instead of the old one."""
    scene.certificates[new] = replace(scene.certificates[old], **changes)
    scene.signers[new] = scene.signers[old]
    scene.chains[chain_name] = tuple(new if item == old else item for item in scene.chains[chain_name])
