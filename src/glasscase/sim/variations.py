"""Honest exhibits in every form that the rules allow: a strict verifier must still accept them.

Invariants: each variation changes form or facts, never honesty; `status` is what Intel's rules say of it.
Source: docs/checks.md; Intel PCS API v4; RFC 5280.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from glasscase.sim import der, pki
from glasscase.sim.documents import utc
from glasscase.sim.fault_model import Change, certificate, chain, cut, edits
from glasscase.sim.faults_pck import set_tcb
from glasscase.sim.pck import CURRENT_TCB, entry, sgx_entries, sgx_extension
from glasscase.sim.scene import Scene, pck_entries

_STATUSES = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
             "OutOfDateConfigurationNeeded")  # fmt: skip
_QE_STATUSES = ("ConfigurationNeeded", "OutOfDate", "OutOfDateConfigurationNeeded")
_WITH_QE_OUT_OF_DATE = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    "OutOfDate": "OutOfDate",
    "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded",
}


@dataclass(frozen=True)
class Variation:
    """One honest case. status: the TCB status that a verifier must find."""

    name: str
    status: str
    apply: Change


@cache
def all_variations() -> dict[str, Variation]:
    """Return every variation by name."""
    found = (*_of_form(), *_of_status(), *_of_time())
    return {item.name: item for item in found}


def _of_form() -> Iterator[Variation]:
    def form(name: str, change: Change) -> Variation:
        return Variation(name, "UpToDate", change)

    yield form("unchanged", lambda _: None)
    for version in (4, 5):
        yield form(f"quote-version-{version}", _quote(version=version))
    for order in (("pck", "root", "ca"), ("ca", "pck", "root"), ("root", "ca", "pck")):
        yield form(f"chain-{'-'.join(order)}", chain("quote", *order))
    for size in (0, 1, 1024):
        yield form(f"qe-auth-of-{size}", _quote(qe_auth=bytes(size)))
    yield form("chain-without-nul", _without_nul)
    for name in ("pck_crl", "tcb_info", "qe_identity"):
        yield form(f"{name.replace('_', '-')}-chain-without-last-newline", edits(f"pem.{name}", cut(1)))
    for name in ("root_crl", "pck_crl"):
        label = name.replace("_", "-")
        yield form(f"{label}-upper-case-hex", edits(f"hex.{name}", bytes.upper))
        yield form(f"{label}-without-entries", _crl(name, revoked=()))
        yield form(f"{label}-of-2000-entries", _crl(name, revoked=tuple(range(1, 2001))))
        yield form(f"{label}-entries-at-the-ends", _crl(name, revoked=(0, 2**160 - 1)))
        yield form(f"{label}-large-number", _crl_number(name, 2**64))
        yield form(f"{label}-largest-number", _crl_number(name, 2**160 - 1))
    yield form("pck-crl-of-neighbours", _neighbours_revoked)
    yield form("serial-small", certificate("pck", serial=1))
    yield form("serial-largest", certificate("pck", serial=2**160 - 1))
    yield form("user-data", _quote(user_data=b"\xff" * 20))
    for name in ("tcb_info", "qe_identity"):
        label = name.replace("_", "-")
        yield form(
            f"{label}-spaced", edits(f"json.{name}", lambda made: made.replace(b",", b" ,\n ").replace(b":[", b" : ["))
        )
        yield form(f"{label}-spaced-outside", edits(f"text.{name}", lambda made: b"\n" + made + b"\n"))
        yield form(f"{label}-signature-first", edits(f"text.{name}", _signature_first))
        yield form(f"{label}-unknown-member", _document(name, somethingNew={"a": [1, "b"]}))
        yield form(f"{label}-longest-advisory", _longest_advisory(name))
        yield form(f"{label}-other-evaluation-number", _document(name, tcbEvaluationDataNumber=0))
    yield form("tcb-info-upper-case", _document("tcb_info", fmspc="53494D554C41"))
    yield form(
        "qe-identity-lower-case", lambda scene: scene.qe_identity.update(mrsigner=scene.qe_identity["mrsigner"].lower())
    )
    yield form("tcb-levels-in-other-order", lambda scene: scene.tcb_info["tcbLevels"].reverse())
    yield form("qe-svn-above-every-level", _quote(qe_fields=(("isv_svn", 65535),)))
    yield form("platform-above-every-level", lambda scene: set_tcb(scene, replace(
        CURRENT_TCB, components=(255,) * 16, pce_svn=65535)))  # fmt: skip
    yield form("cpusvn-other-than-components", lambda scene: set_tcb(scene, replace(CURRENT_TCB, cpu_svn=b"\xff" * 16)))
    yield form("processor-ca", _processor_ca)
    for kind in (0, 2):
        yield form(f"sgx-type-{kind}", _sgx_type(kind))


def _of_status() -> Iterator[Variation]:
    for status in _STATUSES:
        yield Variation(f"platform-{status}", status, _status("tcb_info", status))
        for qe_status in _QE_STATUSES:
            name = f"platform-{status}-qe-{qe_status}"
            yield Variation(name, _WITH_QE_OUT_OF_DATE[status], _both(status, qe_status))
    yield Variation("qe-older-svn", "OutOfDate", _quote(qe_fields=(("isv_svn", 6),)))
    yield Variation("thirty-advisories", "OutOfDate", _advisories)
    older = CURRENT_TCB.components
    yield Variation("platform-one-step-older", "SWHardeningNeeded", lambda scene: set_tcb(scene, replace(
        CURRENT_TCB, components=(older[0] - 1, *older[1:]))))  # fmt: skip
    yield Variation("platform-older-pcesvn", "ConfigurationNeeded", lambda scene: set_tcb(scene, replace(
        CURRENT_TCB, pce_svn=CURRENT_TCB.pce_svn - 1)))  # fmt: skip


def _of_time() -> Iterator[Variation]:
    for name, after in (("first-second", 0), ("last-second", 30 * 86400 - 1)):
        yield Variation(name, "UpToDate", _later(after))
    yield Variation("collateral-of-2038", "UpToDate", lambda scene: _reissue(scene, 2147483648))
    yield Variation("collateral-of-2050", "UpToDate", lambda scene: _reissue(scene, 2524608000))
    yield Variation("collateral-of-february-29", "UpToDate", lambda scene: _reissue(scene, 1835395200))


def _quote(**fields: Any) -> Change:
    return lambda scene: scene.set_quote(**fields)


def _crl(name: str, **fields: Any) -> Change:
    return lambda scene: scene.crl(name, **fields)


def _crl_number(name: str, number: int) -> Change:
    def apply(scene: Scene) -> None:
        crl = scene.crls[name]
        scene.crls[name] = pki.with_extension(crl, pki.OID_CRL_NUMBER, content=der.integer(number))

    return apply


def _document(name: str, **fields: Any) -> Change:
    return lambda scene: getattr(scene, name).update(fields)


def _longest_advisory(name: str) -> Change:
    return lambda scene: getattr(scene, name)["tcbLevels"][0].update(advisoryIDs=["INTEL-SA-" + "0" * 55])


def _status(name: str, status: str) -> Change:
    def apply(scene: Scene) -> None:
        getattr(scene, name)["tcbLevels"][0]["tcbStatus"] = status

    return apply


def _both(status: str, qe_status: str) -> Change:
    def apply(scene: Scene) -> None:
        _status("tcb_info", status)(scene)
        _status("qe_identity", qe_status)(scene)

    return apply


def _advisories(scene: Scene) -> None:
    level = scene.tcb_info["tcbLevels"][0]
    level.update(tcbStatus="OutOfDate", advisoryIDs=[f"INTEL-SA-{number:05}" for number in range(30)])


def _without_nul(scene: Scene) -> None:
    def edit(auth: bytes) -> bytes:
        size = 64 + 64 + 384 + 64 + 2 + len(scene.quote.qe_auth) + 2
        length = int.from_bytes(auth[size : size + 4], "little") - 1
        return auth[:size] + length.to_bytes(4, "little") + auth[size + 4 : -1]

    scene.edit("quote.auth", edit)


def _signature_first(made: bytes) -> bytes:
    start = made.rindex(b',"signature":')
    return b"{" + made[start + 1 : -1] + b"," + made[1:start] + b"}"


def _processor_ca(scene: Scene) -> None:
    """A platform whose certificate was issued by the processor CA: five entries, the CRL of that CA."""
    name = pki.name(pki.PROCESSOR_CA_NAME)
    entries = sgx_entries(CURRENT_TCB, ppid=scene.keys.pck.derive("ppid", 16), instance_id=None)
    scene.certificate("ca", subject=name)
    leaf = replace(scene.certificates["pck"], issuer=name)
    scene.certificates["pck"] = pki.with_extension(leaf, pki.OID_SGX, content=sgx_extension(entries).content)
    scene.crl("pck_crl", issuer=name)


def _sgx_type(kind: int) -> Change:
    def apply(scene: Scene) -> None:
        found = pck_entries(scene.keys, CURRENT_TCB)
        entries = (*found[:4], entry("5", der.enumerated(kind)), *found[5:])
        changed = pki.with_extension(scene.certificates["pck"], pki.OID_SGX, content=sgx_extension(entries).content)
        scene.certificates["pck"] = changed

    return apply


def _neighbours_revoked(scene: Scene) -> None:
    """Serial numbers that differ from the honest one in one bit each, wherever it stands."""
    serial = 0x5A5A5A5A_00000001_80000000_FFFFFFFF_12345678
    scene.certificate("pck", serial=serial)
    scene.crl("pck_crl", revoked=tuple(serial ^ 1 << bit for bit in range(160)))


def _later(after: int) -> Change:
    def apply(scene: Scene) -> None:
        scene.at += after

    return apply


def _reissue(scene: Scene, at: int) -> None:
    """Issue all collateral anew at another time."""
    scene.at = at
    for name in ("tcb_info", "qe_identity"):
        getattr(scene, name).update(issueDate=utc(at), nextUpdate=utc(at + 30 * 86400))
    for name in ("root_crl", "pck_crl"):
        scene.crl(name, this_update=at, next_update=at + 30 * 86400)
