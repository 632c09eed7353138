"""What the C core says of a quote and its platform, as frozen data.

Invariants: byte fields have the length that stands beside them; times are unix seconds; nothing here says genuine.
Source: native/include/glass_quote.h, glass_verify.h.
"""

from typing import Any, NamedTuple

SGX_TYPES = ("standard", "scalable", "scalable-with-integrity")
TDX_FIELDS: tuple[tuple[str, int], ...] = (  # name and bytes; a 584-byte body ends before the last two
    ("tee_tcb_svn", 16), ("mr_seam", 48), ("mr_signer_seam", 48), ("seam_attributes", 8), ("td_attributes", 8),
    ("xfam", 8), ("mr_td", 48), ("mr_config_id", 48), ("mr_owner", 48), ("mr_owner_config", 48), ("rtmr0", 48),
    ("rtmr1", 48), ("rtmr2", 48), ("rtmr3", 48), ("report_data", 64), ("tee_tcb_svn2", 16), ("mr_service_td", 48),
)  # fmt: skip


class CoreCheck(NamedTuple):
    """One check: id, outcome ("pass", "fail", "not_reached", "not_applicable"), what was seen and what was wanted."""

    id: str
    outcome: str
    observed: str
    expected: str


class PckFacts(NamedTuple):
    """What the SGX extension of the PCK certificate says. platform_instance_id is zero for the processor CA.

    dynamic_platform, cached_keys, smt_enabled: None where the certificate does not say.
    """

    ca: str  # "processor" or "platform"
    serial: bytes  # big-endian, without leading zeros
    ppid: bytes  # 16
    component_svn: bytes  # 16, one byte each
    cpusvn: bytes  # 16
    cpusvn_differs: bool
    pcesvn: int
    pceid: bytes  # 2
    fmspc: bytes  # 6
    sgx_type: str
    platform_instance_id: bytes  # 16
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None
    not_before: int  # unix seconds
    not_after: int


class TcbLevel(NamedTuple):
    """One TCB level of the TCB info. status: a name of the policy file, "Revoked" too."""

    component_svn: bytes  # 16, one byte each
    pcesvn: int
    status: str
    date: int  # unix seconds


class Window(NamedTuple):
    """Valid while start <= at < end (unix seconds)."""

    start: int
    end: int


class Shortfall(NamedTuple):
    """One component that is below what the UpToDate level needs. component: 0..15, or 16 for PCESVN."""

    component: int
    own: int
    needed: int


class ParsedQuote(NamedTuple):
    """A quote taken apart; nothing here says that it is genuine."""

    version: int
    key_type: int
    tee: str  # "SGX" or "TDX"
    qe_svn: int
    pce_svn: int
    vendor_id: bytes  # 16
    user_data: bytes  # 20
    body: bytes  # 384 for SGX; 584 or 648 for TDX
    signed_bytes: bytes
    signature: bytes  # 64, raw r || s
    attestation_key: bytes  # 64, x || y
    qe_report: bytes  # 384
    qe_report_signature: bytes  # 64
    qe_auth: bytes
    certification_type: int
    certification: bytes
    chain: tuple[bytes, ...]  # DER, in the order of the quote; empty without a PEM chain
    pck: PckFacts | None

    @property
    def tdx_fields(self) -> dict[str, bytes]:
        """Return the named parts of a TDX body; empty for SGX."""
        fields: dict[str, bytes] = {}
        offset = 0
        for name, size in TDX_FIELDS if self.tee == "TDX" else ():
            if offset < len(self.body):
                fields[name] = self.body[offset : offset + size]
            offset += size
        return fields


def pck_of(facts: Any) -> PckFacts | None:
    """Return the facts of a glass_pck_facts, None if it holds none."""
    if not facts.present:
        return None
    return PckFacts(
        ca="platform" if facts.platform_ca else "processor",
        serial=bytes(facts.serial)[: facts.serial_size],
        ppid=bytes(facts.ppid),
        component_svn=bytes(facts.component_svn),
        cpusvn=bytes(facts.cpusvn),
        cpusvn_differs=bool(facts.cpusvn_differs),
        pcesvn=facts.pcesvn,
        pceid=bytes(facts.pceid),
        fmspc=bytes(facts.fmspc),
        sgx_type=SGX_TYPES[facts.sgx_type] if facts.sgx_type < len(SGX_TYPES) else "unknown",
        platform_instance_id=bytes(facts.platform_instance_id),
        dynamic_platform=_flag(facts.dynamic_platform),
        cached_keys=_flag(facts.cached_keys),
        smt_enabled=_flag(facts.smt_enabled),
        not_before=facts.not_before,
        not_after=facts.not_after,
    )


def _flag(flag: int) -> bool | None:
    return bool(flag) if flag in (0, 1) else None
