"""Quotes and collateral judged by the C core: named checks in a fixed order, no policy.

Invariants: hostile quotes and collateral never raise, they yield failed checks; a CoreVerdict says genuine only if every check
passed or does not apply; time is an argument; nothing of the caller's buffers is kept.
Source: docs/checks.md; native/include/glass_verify.h.
"""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core.facts import CoreCheck, ParsedQuote, PckFacts, Shortfall, TcbLevel, Window, pck_of
from glasscase.core.handles import check, context
from glasscase.errors import FormatError, UsageError

CHECKS: tuple[str, ...] = tuple(
    str(ffi.string(lib.glass_check_name(index)), "ascii") for index in range(lib.glass_check_count())
)
ITEMS: tuple[str, ...] = (  # keys of the corpus form, in the order of enum glass_item
    "root_ca_crl", "pck_crl", "pck_crl_issuer_chain", "tcb_info", "tcb_info_issuer_chain", "qe_identity",
    "qe_identity_issuer_chain",
)  # fmt: skip
DATED: tuple[str, ...] = (  # the order of enum glass_dated
    "root", "pck_ca", "pck_leaf", "root_ca_crl", "pck_crl_root", "pck_crl_ca", "pck_crl", "tcb_info_root",
    "tcb_info_signer", "tcb_info", "qe_identity_root", "qe_identity_signer", "qe_identity",
)  # fmt: skip
_DATED_AT = {name: index for index, name in enumerate(DATED)}
STATUSES: tuple[str | None, ...] = (  # by enum glass_tcb_status
    None,
    *(str(ffi.string(lib.glass_tcb_status_name(status)), "ascii") for status in range(1, lib.GLASS_TCB_REVOKED + 1)),
)
OUTCOMES = ("not_reached", "pass", "fail", "not_applicable")
CACHE_ENTRIES = 256  # PCK chains whose signatures are remembered
TEXT_SIZE = 1024  # bytes of one observed or expected text, more is cut
CERTIFICATE_SIZE = 8192  # bytes of one DER certificate
KEY_SIZE = 65  # bytes of an uncompressed P-256 point
MAX_ROOTS = 4
MAX_THREADS = 64
MAX_TIME = 253402300799  # 9999-12-31T23:59:59Z
VERDICT_SIZE = 12288  # bytes that the garbage collector counts for one verdict


class Anchor:
    """Root certificates that a verification accepts, all with one key. Immutable."""

    def __init__(
        self, certificates: Sequence[bytes], *, key: bytes, insecure: bool, known: Sequence[bytes] = ()
    ) -> None:
        """certificates: 1 to 4 in DER. key: their 65-byte P-256 key. insecure: not Intel's.

        known: at most 4 certificates in DER whose signatures are checked now and then not again; they are trusted no more
        than others. Raises FormatError("core.root.malformed") if a certificate is not a self-signed root by the rules, has
        another key, or if a known one is not signed by it.
        """
        if not 1 <= len(certificates) <= MAX_ROOTS or len(key) != KEY_SIZE or not all(certificates):
            raise UsageError("core.root.missing", "an anchor needs one to four root certificates and a key of 65 bytes")
        buffers = [ffi.from_buffer("uint8_t[]", certificate) for certificate in certificates]
        out = ffi.new("glass_anchor **")
        sizes = [len(certificate) for certificate in certificates]
        status = lib.glass_anchor_new(
            context(), out, ffi.new("const uint8_t *[]", buffers), sizes, len(buffers), key, int(insecure)
        )
        if status == lib.GLASS_ERR_FORMAT:
            raise FormatError(
                "core.root.malformed",
                "a root certificate is not a self-signed P-256 root of the SGX profile with the given key",
            )
        check(status, "the trust anchor cannot be made")
        self.handle = ffi.gc(out[0], lib.glass_anchor_free)
        self.insecure = insecure
        for certificate in known:
            if lib.glass_anchor_know(context(), self.handle, certificate, len(certificate)) != lib.GLASS_OK:
                raise FormatError("core.root.malformed", "a known certificate is not signed by the root")


def certificate_der(pem: bytes) -> bytes:
    """Return the DER of exactly one PEM certificate. Raises FormatError("core.root.malformed")."""
    out = ffi.new("uint8_t[]", CERTIFICATE_SIZE)
    size = ffi.new("size_t *")
    if lib.glass_pem_certificate(out, CERTIFICATE_SIZE, size, pem, len(pem)) != lib.GLASS_OK:
        raise FormatError("core.root.malformed", "not exactly one certificate in the exact PEM form")
    return bytes(ffi.buffer(out, size[0]))


def certificate_key(der: bytes) -> bytes:
    """Return the 65-byte key of a certificate of the SGX profile. Raises FormatError("core.root.malformed")."""
    key = ffi.new("uint8_t[65]")
    if lib.glass_certificate_key(key, der, len(der)) != lib.GLASS_OK:
        raise FormatError("core.root.malformed", "not a P-256 certificate of the SGX profile")
    return bytes(ffi.buffer(key))


class PreparedCollateral:
    """The seven objects with their signatures checked once under one anchor; use it for many quotes. Immutable."""

    def __init__(self, items: Mapping[str, bytes | str], anchor: Anchor) -> None:
        """items: by the names of ITEMS; CRLs as DER, PEM or hexadecimal DER. A missing one is a failed check.

        Raises UsageError("core.item.unknown") for another name; never because of what an item holds.
        """
        unknown = sorted(set(items) - set(ITEMS))
        if unknown:
            raise UsageError("core.item.unknown", f"{unknown[0]!r} is not an item of collateral")
        out = ffi.new("glass_collateral **")
        check(lib.glass_collateral_new(out), "the collateral cannot be kept")
        self.handle = ffi.gc(out[0], lib.glass_collateral_free)
        self.anchor = anchor
        for index, name in enumerate(ITEMS):
            item = items.get(name)
            if item is not None:
                # a text that is no UTF-8 is hostile too: it becomes bytes that no reader accepts
                data = item.encode("utf-8", "surrogatepass") if isinstance(item, str) else bytes(item)
                check(lib.glass_collateral_set(self.handle, index, data, len(data)), "the collateral cannot be kept")
        check(lib.glass_collateral_prepare(context(), self.handle, anchor.handle), "the collateral cannot be prepared")


class CoreVerdict:
    """What the core found. Only `genuine` says that the quote is genuine; a status alone says nothing."""

    def __init__(self, handle: Any) -> None:
        """handle: a `glass_verdict *` that this object owns from now on."""
        self._handle = ffi.gc(handle, lib.glass_verdict_free, VERDICT_SIZE)
        self._facts = lib.glass_verdict_facts(self._handle)

    @property
    def genuine(self) -> bool:
        """Return whether every check passed or does not apply."""
        return bool(lib.glass_verdict_genuine(self._handle) == 1)

    @cached_property
    def outcomes(self) -> bytes:
        """Return one byte for each of CHECKS, an index into OUTCOMES."""
        return bytes(ffi.buffer(lib.glass_verdict_outcomes(self._handle), len(CHECKS)))

    @property
    def failed(self) -> tuple[str, ...]:
        """Return the ids of the checks that failed, in their order."""
        return tuple(name for name, outcome in zip(CHECKS, self.outcomes, strict=True) if OUTCOMES[outcome] == "fail")

    @property
    def by_id(self) -> dict[str, str]:
        """Return the outcome of every check by its id, in their order, without texts."""
        return {name: OUTCOMES[outcome] for name, outcome in zip(CHECKS, self.outcomes, strict=True)}

    @cached_property
    def checks(self) -> tuple[CoreCheck, ...]:
        """Return all checks in their order; the texts are made here."""
        observed, expected = ffi.new("char[]", TEXT_SIZE), ffi.new("char[]", TEXT_SIZE)
        found = []
        for index, name in enumerate(CHECKS):
            status = lib.glass_verdict_text(self._handle, index, observed, TEXT_SIZE, expected, TEXT_SIZE)
            check(status, "the verdict cannot be read")
            texts = str(ffi.string(observed), "ascii"), str(ffi.string(expected), "ascii")
            found.append(CoreCheck(name, OUTCOMES[self.outcomes[index]], *texts))
        return tuple(found)

    @property
    def tcb_status(self) -> str | None:
        """Return the status of platform and QE together, None if it was not decided."""
        return _status(self._facts.tcb_status)

    @property
    def platform_status(self) -> str | None:
        """Return the status of the matched TCB level alone."""
        return _status(self._facts.platform_status)

    @property
    def qe_status(self) -> str | None:
        """Return UpToDate, OutOfDate or Revoked for the quoting enclave."""
        return _status(self._facts.qe_status)

    @cached_property
    def advisories(self) -> tuple[str, ...]:
        """Return the advisories of the platform's level, then of the QE's, each once."""
        out = ffi.new("char[]", TEXT_SIZE)
        found = []
        for index in range(self._facts.advisory_count):
            check(lib.glass_verdict_advisory(self._handle, index, out, TEXT_SIZE), "the verdict cannot be read")
            found.append(str(ffi.string(out), "ascii"))
        return tuple(found)

    @cached_property
    def pck(self) -> PckFacts | None:
        """Return what the PCK certificate says, None if none could be read."""
        return pck_of(self._facts.pck)

    @property
    def matched(self) -> TcbLevel | None:
        """Return the TCB level that holds for the platform."""
        return _level(self._facts.matched)

    @property
    def needed(self) -> TcbLevel | None:
        """Return the lowest level with the status UpToDate, or the highest where there is none."""
        return _level(self._facts.needed)

    @cached_property
    def shortfall(self) -> tuple[Shortfall, ...]:
        """Return the components that are below the needed level; 16 is PCESVN."""
        if self.pck is None or self.needed is None:
            return ()
        own = (*self.pck.component_svn, self.pck.pcesvn)
        wanted = (*self.needed.component_svn, self.needed.pcesvn)
        return tuple(Shortfall(i, a, b) for i, (a, b) in enumerate(zip(own, wanted, strict=True)) if a < b)

    @property
    def qe_isvsvn(self) -> tuple[int, int]:
        """Return the QE's own SVN and the lowest that is UpToDate (0: none)."""
        return int(self._facts.qe_isvsvn), int(self._facts.qe_needed_isvsvn)

    @property
    def qe_tcb_date(self) -> int:
        """Return the tcbDate of the matched QE level, 0 if there is none."""
        return int(self._facts.qe_tcb_date)

    def window(self, name: str) -> Window | None:
        """Return the validity window of one dated item (a name of DATED), None if it could not be read."""
        window = self._facts.windows[_DATED_AT[name]]
        return Window(window.start, window.end) if window.known else None

    @cached_property
    def windows(self) -> dict[str, Window]:
        """Return the validity window of every dated item that could be read, by the names of DATED."""
        found = {name: self.window(name) for name in DATED}
        return {name: window for name, window in found.items() if window is not None}

    @property
    def earliest_issue(self) -> int:
        """Return the earliest start of all windows, 0 if one is unknown."""
        return int(self._facts.earliest_issue)

    @property
    def latest_issue(self) -> int:
        """Return the latest start of all windows, 0 if one is unknown."""
        return int(self._facts.latest_issue)

    @property
    def earliest_expiration(self) -> int:
        """Return the earliest end of all windows, 0 if one is unknown."""
        return int(self._facts.earliest_expiration)

    @property
    def root_ca_crl_number(self) -> int:
        """Return the number of the root CA CRL, 0 if it could not be read."""
        return int.from_bytes(bytes(self._facts.root_ca_crl_number), "big")

    @property
    def pck_crl_number(self) -> int:
        """Return the number of the PCK CRL, 0 if it could not be read."""
        return int.from_bytes(bytes(self._facts.pck_crl_number), "big")

    @property
    def tcb_info_version(self) -> int:
        """Return the version of the TCB info, 0 if it could not be read."""
        return int(self._facts.tcb_info_version)

    @property
    def tcb_info_evaluation(self) -> int:
        """Return tcbEvaluationDataNumber of the TCB info."""
        return int(self._facts.tcb_info_evaluation)

    @property
    def qe_identity_evaluation(self) -> int:
        """Return tcbEvaluationDataNumber of the QE identity."""
        return int(self._facts.qe_identity_evaluation)

    @property
    def tcb_info_sha256(self) -> bytes:
        """Return SHA-256 of the signed tcbInfo object, verbatim; 32 zero bytes if there is none."""
        return bytes(self._facts.tcb_info_sha256)

    @property
    def root_key_id(self) -> bytes:
        """Return the 48-byte id of the root's key as Intel's supplemental data has it."""
        return bytes(self._facts.root_key_id)


def _status(status: int) -> str | None:
    return STATUSES[status]


def _level(level: Any) -> TcbLevel | None:
    status = _status(level.status)
    return None if status is None else TcbLevel(bytes(level.component_svn), level.pcesvn, status, level.date)


@cache
def _signature_cache() -> Any:
    """Return the one cache of good PCK chain signatures; it holds no verdicts."""
    out = ffi.new("glass_cache **")
    check(lib.glass_cache_new(out, CACHE_ENTRIES), "the signature cache cannot be made")
    return ffi.gc(out[0], lib.glass_cache_free)


def _seconds(at: int) -> int:
    if not 0 < at <= MAX_TIME:
        raise UsageError("core.time.invalid", f"the time {at} is not between 1970-01-01T00:00:01Z and the year 9999")
    return at


def verify(quote: bytes, *, collateral: PreparedCollateral, at: int) -> CoreVerdict:
    """Return the verdict on one quote at the unix second `at`; hostile input never raises.

    Raises UsageError("core.time.invalid"), StorageError if memory or libcrypto fail.
    """
    out = ffi.new("glass_verdict **")
    status = lib.glass_verify(
        context(), out, quote, len(quote), collateral.handle, collateral.anchor.handle, _signature_cache(), _seconds(at)
    )
    check(status, "the quote cannot be judged")
    return CoreVerdict(out[0])


def verify_many(
    jobs: Sequence[tuple[bytes, PreparedCollateral]], *, at: int, threads: int = 1
) -> tuple[CoreVerdict, ...]:
    """Return the verdicts on many quotes, in order, judged on up to `threads` (1 to 64) threads outside the GIL.

    All collateral must have been prepared with one Anchor object: UsageError("core.root.mixed").
    """
    if not 1 <= threads <= MAX_THREADS:
        raise UsageError("core.threads.invalid", f"{threads} threads, expected 1 to {MAX_THREADS}")
    seconds = _seconds(at)
    if not jobs:
        return ()
    anchor = jobs[0][1].anchor
    if any(collateral.anchor is not anchor for _, collateral in jobs):
        raise UsageError("core.root.mixed", "the collaterals were prepared with different anchors")
    buffers = [ffi.from_buffer("uint8_t[]", quote) for quote, _ in jobs]
    rows = ffi.new("glass_job[]", len(jobs))
    for row, buffer, (quote, collateral) in zip(rows, buffers, jobs, strict=True):
        row.quote, row.quote_len, row.collateral = buffer, len(quote), collateral.handle
    out = ffi.new("glass_verdict *[]", len(jobs))
    status = lib.glass_verify_many(context(), out, rows, len(jobs), anchor.handle, _signature_cache(), seconds, threads)
    check(status, "the quotes cannot be judged")
    return tuple(CoreVerdict(handle) for handle in out)


def parse_quote(quote: bytes) -> ParsedQuote:
    """Return the parts of a quote of version 3, 4 or 5. Raises FormatError with the id of the first quote.* check that fails."""
    out, fault = ffi.new("glass_quote **"), ffi.new("uint32_t *")
    status = lib.glass_quote_parse(context(), out, fault, quote, len(quote))
    if status == lib.GLASS_ERR_FORMAT and fault[0] < len(CHECKS):
        from glasscase.reasons.dcap import REASONS

        reason = REASONS[fault[0]]  # the same order; imported here, because only this needs the words
        raise FormatError(reason.id, f"not a quote: {reason.message} (of {len(quote)} bytes)", what="quote")
    check(status, "the quote cannot be read")
    handle = ffi.gc(out[0], lib.glass_quote_free)
    layout = lib.glass_quote_get_layout(handle)

    def part(span: Any) -> bytes:
        return quote[span.offset : span.offset + span.size]

    names = (
        "vendor_id", "user_data", "body", "signed_bytes", "signature", "attestation_key", "qe_report",
        "qe_report_signature", "qe_auth", "certification",
    )  # fmt: skip
    return ParsedQuote(
        version=layout.version,
        key_type=layout.key_type,
        tee="TDX" if layout.tee == lib.GLASS_TEE_TDX else "SGX",
        qe_svn=layout.qe_svn,
        pce_svn=layout.pce_svn,
        certification_type=layout.certification_type,
        chain=_certificates(handle),
        pck=pck_of(lib.glass_quote_get_pck(handle)),
        **{name: part(getattr(layout, name)) for name in names},
    )


def _certificates(quote: Any) -> tuple[bytes, ...]:
    der, size = ffi.new("const uint8_t **"), ffi.new("size_t *")
    found = []
    for index in range(3):
        lib.glass_quote_certificate(quote, index, der, size)
        if size[0]:
            found.append(bytes(ffi.buffer(der[0], size[0])))
    return tuple(found)


def p256_verify(key: bytes, message: bytes, signature: bytes, *, der: bool) -> bool:
    """Return whether an ECDSA P-256 / SHA-256 signature holds; False too for a key or signature of the wrong form."""
    if len(key) != KEY_SIZE:
        return False
    return bool(
        lib.glass_p256_verify(context(), key, message, len(message), signature, len(signature), int(der))
        == lib.GLASS_OK
    )
