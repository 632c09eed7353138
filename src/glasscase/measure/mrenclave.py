"""MRENCLAVE from two files, manifest.sgx and libpal.so.

Invariants: the result depends on these bytes alone; nothing that an enclave or a builder says of itself is used.
Source: docs/bundle-format.md, "Measurement"; Intel SDM vol. 3D, ECREATE, EADD, EEXTEND.
"""

from dataclasses import dataclass

from glasscase.core.measure import MeasurementHash
from glasscase.gramine.elf import PAGE
from glasscase.gramine.layout import (
    SECINFO_R,
    SECINFO_TCS,
    SECINFO_W,
    SECINFO_X,
    SSA_FRAME,
    EnclaveArea,
    EnclaveLayout,
    layout,
    manifest_pages,
    tcs_pages,
    tls_pages,
)
from glasscase.sgx.sigstruct import SigstructBody


@dataclass(frozen=True)
class Area:
    """One run of pages. start, size in bytes; permissions like "r-x", or "tcs"; measured: its content is hashed."""

    name: str
    start: int
    size: int
    measured: bool
    permissions: str


@dataclass(frozen=True)
class Measurement:
    """What the hardware must report of an enclave. mrenclave: 32 bytes.

    attributes_flags, xfrm, xfrm_mask, misc_select, isv_prod_id, isv_svn: as the manifest decides them for SIGSTRUCT; they
    are not part of mrenclave. enclave_size: bytes. pages_measured: of 4096 bytes, added and hashed; pages_added: all.
    """

    mrenclave: bytes
    attributes_flags: int
    xfrm: int
    xfrm_mask: int
    misc_select: int
    enclave_size: int
    isv_prod_id: int
    isv_svn: int
    max_threads: int
    edmm: bool
    pages_measured: int
    pages_added: int
    areas: tuple[Area, ...]

    def to_sign(self, date: str) -> SigstructBody:
        """Return what a SIGSTRUCT of this enclave signs. date: "YYYY-MM-DD", or "0000-00-00" for none."""
        return SigstructBody(
            mrenclave=self.mrenclave,
            attributes_flags=self.attributes_flags,
            xfrm=self.xfrm,
            xfrm_mask=self.xfrm_mask,
            misc_select=self.misc_select,
            isv_prod_id=self.isv_prod_id,
            isv_svn=self.isv_svn,
            date=date,
        )


def measure(manifest_sgx: bytes, libpal: bytes) -> Measurement:
    """Return the measurement of the enclave of these two files; raises as glasscase.gramine.layout.layout does."""
    return measure_layout(layout(manifest_sgx, libpal))


def measure_layout(plan: EnclaveLayout) -> Measurement:
    """Return the measurement of a layout."""
    record = MeasurementHash(ssa_pages=SSA_FRAME // PAGE, size=plan.size)
    for area in plan.areas:
        if not area.measured:
            record.add(area.start, area.size, area.flags)
            continue
        content = area_pages(plan, area)
        if content:
            record.extend(area.start, area.flags, content)
        if len(content) < area.size:
            record.extend_zero(area.start + len(content), area.size - len(content), area.flags)
    options = plan.options
    return Measurement(
        mrenclave=record.final(),
        attributes_flags=options.attributes_flags,
        xfrm=options.xfrm,
        xfrm_mask=options.xfrm_mask,
        misc_select=options.misc_select,
        enclave_size=options.size,
        isv_prod_id=options.isv_prod_id,
        isv_svn=options.isv_svn,
        max_threads=options.max_threads,
        edmm=options.edmm,
        pages_measured=sum(area.size for area in plan.areas if area.measured) // PAGE,
        pages_added=sum(area.size for area in plan.areas) // PAGE,
        areas=tuple(_public(area) for area in plan.areas),
    )


def area_pages(plan: EnclaveLayout, area: EnclaveArea) -> bytes:
    """Return the leading pages of a measured area that are not all zeros."""
    if area.name == "manifest":
        return manifest_pages(plan)
    if area.name == "tcs":
        return tcs_pages(plan)
    if area.name == "tls":
        return tls_pages(plan)
    return area.segment.filled_pages() if area.segment else b""


def _public(area: EnclaveArea) -> Area:
    letters = ((SECINFO_R, "r"), (SECINFO_W, "w"), (SECINFO_X, "x"))
    permissions = "".join(letter if area.flags & flag else "-" for flag, letter in letters)
    return Area(
        name=area.name,
        start=area.start,
        size=area.size,
        measured=area.measured,
        permissions="tcs" if area.flags & SECINFO_TCS else permissions,
    )
