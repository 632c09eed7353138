"""The 384-byte body of an SGX report: what the processor says about one enclave.

Invariants: from_bytes(body.to_bytes()) == body; reserved bytes are zero. Nothing here says that a report is genuine.
Layout: Intel SDM vol. 3D, "Layout of REPORT". Imported inside the enclave: standard library only.
"""

import struct
from typing import NamedTuple

from glasscase.errors import FormatError
from glasscase.sgx.attributes import FLAG_DEBUG, REPORT_BODY_SIZE, REPORT_SIZE

# CPUSVN, MISCSELECT, reserved, ISVEXTPRODID, ATTRIBUTES (flags, xfrm), MRENCLAVE, reserved, MRSIGNER, reserved, CONFIGID,
# ISVPRODID, ISVSVN, CONFIGSVN, reserved, ISVFAMILYID, REPORTDATA
_LAYOUT = struct.Struct("<16sI12s16sQQ32s32s32s32s64sHHH42s16s64s")
_RESERVED = (bytes(12), bytes(32), bytes(32), bytes(42))
_LENGTHS = (
    16,
    16,
    32,
    32,
    64,
    16,
    64,
)  # of CPUSVN, ISVEXTPRODID, MRENCLAVE, MRSIGNER, CONFIGID, ISVFAMILYID, REPORTDATA


class ReportBody(NamedTuple):
    """One report body; names as in the SGX manual. from_bytes gives every byte field the length that the manual says."""

    cpu_svn: bytes
    misc_select: int
    isv_ext_prod_id: bytes
    attributes_flags: int
    xfrm: int
    mrenclave: bytes
    mrsigner: bytes
    config_id: bytes
    isv_prod_id: int
    isv_svn: int
    config_svn: int
    isv_family_id: bytes
    report_data: bytes

    @property
    def debug(self) -> bool:
        """Return whether the enclave can be read and changed with a debugger."""
        return bool(self.attributes_flags & FLAG_DEBUG)

    @classmethod
    def from_bytes(cls, body: bytes) -> "ReportBody":
        """Return the fields of exactly 384 bytes.

        Raises FormatError("sgx.report.malformed") for another length or a reserved byte that is not zero.
        """
        if len(body) != REPORT_BODY_SIZE:
            raise FormatError(
                "sgx.report.malformed", f"a report body has {REPORT_BODY_SIZE} bytes, not {len(body)}", what="report"
            )
        f = _LAYOUT.unpack(body)
        if (f[2], f[7], f[9], f[14]) != _RESERVED:
            raise FormatError("sgx.report.malformed", "a reserved byte of the report body is not zero", what="report")
        return cls(
            cpu_svn=f[0], misc_select=f[1], isv_ext_prod_id=f[3], attributes_flags=f[4], xfrm=f[5], mrenclave=f[6],
            mrsigner=f[8], config_id=f[10], isv_prod_id=f[11], isv_svn=f[12], config_svn=f[13], isv_family_id=f[15],
            report_data=f[16],
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return the 384 bytes. Raises FormatError("sgx.report.malformed") if a value does not fit its field."""
        lengths = (len(self.cpu_svn), len(self.isv_ext_prod_id), len(self.mrenclave), len(self.mrsigner),
                   len(self.config_id), len(self.isv_family_id), len(self.report_data))  # fmt: skip
        if lengths != _LENGTHS:
            raise FormatError(
                "sgx.report.malformed", f"byte fields have {lengths} bytes, not {_LENGTHS}", what="report"
            )
        try:
            return _LAYOUT.pack(
                self.cpu_svn, self.misc_select, _RESERVED[0], self.isv_ext_prod_id, self.attributes_flags, self.xfrm,
                self.mrenclave, _RESERVED[1], self.mrsigner, _RESERVED[2], self.config_id, self.isv_prod_id,
                self.isv_svn, self.config_svn, _RESERVED[3], self.isv_family_id, self.report_data,
            )  # fmt: skip
        except struct.error:
            raise FormatError("sgx.report.malformed", "a number does not fit its report field", what="report") from None


def own_report(report: bytes) -> ReportBody:
    """Return the body of the 432 bytes that EREPORT wrote for this very enclave.

    Only the enclave that asked the processor for it may believe it; the MAC is not checked here.
    Raises FormatError("sgx.report.malformed") for another length.
    """
    if len(report) != REPORT_SIZE:
        raise FormatError("sgx.report.malformed", f"a report has {REPORT_SIZE} bytes, not {len(report)}", what="report")
    return ReportBody.from_bytes(report[:REPORT_BODY_SIZE])
