"""SGX quotes by a simulated quoting enclave: version 3, and 4 and 5 which the format has for SGX too.

Invariants: what is described is what is signed; the quoting enclave's report binds the attestation key.
Source: Intel SGX ECDSA Quote Library Reference, appendix A (quote format); Intel SDM vol. 3D, REPORT and TARGETINFO.
"""

import hashlib
import struct
from dataclasses import dataclass

from glasscase.sim.documents import QE_SVN
from glasscase.sim.pck import CURRENT_TCB
from glasscase.sim.pki import Edit, SigningKey

REPORT_BODY_SIZE = 384  # bytes
TARGET_INFO_SIZE = 512  # bytes
INTEL_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
CERTIFICATION_PCK_CHAIN = 5
CERTIFICATION_QE_REPORT = 6  # what wraps the QE's report from version 4 on
BODY_SGX = 1
_NESTED_VERSIONS = (4, 5)
_DESCRIBED_VERSION = 5
FLAG_INIT = 0x1
FLAG_MODE64 = 0x4
FLAG_PROVISION_KEY = 0x10
XFRM_LEGACY_AVX512 = 0xE7
QE_MRENCLAVE = hashlib.sha256(b"glasscase simulated quoting enclave").digest()
QE_MRSIGNER = hashlib.sha256(b"glasscase simulated quoting enclave signer").digest()
QE_AUTH = bytes(range(32))
_BODY = struct.Struct("<16sI12x16sQQ32s32x32s32x64sHHH42x16s64s")


def report_body(
    *,
    mrenclave: bytes,
    mrsigner: bytes,
    isv_prod_id: int = 0,
    isv_svn: int = 0,
    attributes_flags: int = FLAG_INIT | FLAG_MODE64,
    xfrm: int = XFRM_LEGACY_AVX512,
    misc_select: int = 0,
    report_data: bytes = bytes(64),
    cpu_svn: bytes = CURRENT_TCB.cpu_svn,
    isv_ext_prod_id: bytes = bytes(16),
    config_id: bytes = bytes(64),
    config_svn: int = 0,
    isv_family_id: bytes = bytes(16),
) -> bytes:
    """Return the 384 bytes of a report body. Raises ValueError if a byte field has another length."""
    fields = ((cpu_svn, 16), (isv_ext_prod_id, 16), (mrenclave, 32), (mrsigner, 32), (config_id, 64),
              (isv_family_id, 16), (report_data, 64))  # fmt: skip
    if any(len(value) != size for value, size in fields):
        raise ValueError("a field of the report body has another length")
    return _BODY.pack(
        cpu_svn, misc_select, isv_ext_prod_id, attributes_flags, xfrm, mrenclave, mrsigner, config_id,
        isv_prod_id, isv_svn, config_svn, isv_family_id, report_data,
    )  # fmt: skip


def qe_report_body(**changes: int | bytes) -> bytes:
    """Return the report body of the simulated quoting enclave; changes: fields of report_body."""
    fields: dict[str, int | bytes] = {
        "mrenclave": QE_MRENCLAVE,
        "mrsigner": QE_MRSIGNER,
        "isv_prod_id": 1,
        "isv_svn": QE_SVN,
        "attributes_flags": FLAG_INIT | FLAG_MODE64 | FLAG_PROVISION_KEY,
        **changes,
    }
    return report_body(**fields)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Quote:
    """Everything in a quote but its two signatures. body: 384 bytes; qe_fields: changes to the QE's report.

    reserved: the TEE type from version 4 on. svns_reserved, nested_type, body_type: the parts that only versions 4 and 5 have.
    """

    body: bytes
    certification: bytes
    certification_type: int = CERTIFICATION_PCK_CHAIN
    version: int = 3
    key_type: int = 2
    reserved: int = 0
    qe_svn: int = QE_SVN
    pce_svn: int = CURRENT_TCB.pce_svn
    vendor_id: bytes = INTEL_VENDOR_ID
    user_data: bytes = bytes(20)
    qe_auth: bytes = QE_AUTH
    qe_fields: tuple[tuple[str, int | bytes], ...] = ()
    svns_reserved: int = 0
    nested_type: int = CERTIFICATION_QE_REPORT
    body_type: int = BODY_SGX
    body_size: int = REPORT_BODY_SIZE

    def encode(self, attestation_key: SigningKey, pck_key: SigningKey, *, edits: "QuoteEdits | None" = None) -> bytes:
        """Return the quote, its body signed by the attestation key, the QE's report by the PCK key."""
        edits = edits or QuoteEdits()
        signed = _apply(edits.signed, self._header() + self._described_body())
        public = attestation_key.point[1:]
        digest = hashlib.sha256(public + self.qe_auth).digest() + bytes(32)
        qe_report = _apply(edits.qe_report, qe_report_body(**{"report_data": digest, **dict(self.qe_fields)}))
        certified = b"".join(
            (
                qe_report,
                pck_key.sign_raw(qe_report),
                struct.pack("<H", len(self.qe_auth)) + self.qe_auth,
                struct.pack("<HI", self.certification_type, len(self.certification)) + self.certification,
            )
        )
        if self.version in _NESTED_VERSIONS:
            certified = struct.pack("<HI", self.nested_type, len(certified)) + certified
        auth = _apply(edits.auth, attestation_key.sign_raw(signed) + public + certified)
        return _apply(edits.quote, signed + struct.pack("<I", len(auth)) + auth)

    def _header(self) -> bytes:
        head = struct.pack("<HHI", self.version, self.key_type, self.reserved)
        nested = self.version in _NESTED_VERSIONS
        svns = struct.pack("<I", self.svns_reserved) if nested else struct.pack("<HH", self.qe_svn, self.pce_svn)
        return head + svns + self.vendor_id + self.user_data

    def _described_body(self) -> bytes:
        described = self.version == _DESCRIBED_VERSION
        return (struct.pack("<HI", self.body_type, self.body_size) if described else b"") + self.body


@dataclass(frozen=True)
class QuoteEdits:
    """Changes to the bytes of a quote. signed, qe_report: before signing; auth: before its length; quote: at the end."""

    signed: Edit | None = None
    qe_report: Edit | None = None
    auth: Edit | None = None
    quote: Edit | None = None


def target_info(*, mrenclave: bytes, attributes_flags: int, xfrm: int, misc_select: int) -> bytes:
    """Return the 512 bytes by which an enclave is named as the target of a report."""
    fields = struct.pack("<32sQQ4xI8x64x", mrenclave, attributes_flags, xfrm, misc_select)
    return fields.ljust(TARGET_INFO_SIZE, b"\0")


def _apply(edit: Edit | None, data: bytes) -> bytes:
    return edit(data) if edit else data
