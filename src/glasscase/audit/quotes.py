"""A quote, taken apart for people.

Source: Intel SGX ECDSA quote format, versions 3 to 5.
"""

from typing import Any

from glasscase.core import dcap
from glasscase.core.facts import ParsedQuote, PckFacts
from glasscase.sgx.attributes import FLAG_DEBUG
from glasscase.sgx.report import ReportBody

_TD_DEBUG = 0x1


def describe_quote(content: bytes) -> dict[str, Any]:
    """Return what a quote of version 3, 4 or 5 says, SGX or TDX. Raises FormatError with the id of the failing check."""
    quote = dcap.parse_quote(content)
    value: dict[str, Any] = {
        "kind": "quote",
        "version": quote.version,
        "tee": quote.tee,
        **(_sgx(quote.body) if quote.tee == "SGX" else _tdx(quote)),
        "fmspc": quote.pck.fmspc.hex() if quote.pck else None,
        "pck_ca": quote.pck.ca if quote.pck else None,
        "certification_type": quote.certification_type,
        "qe_svn": quote.qe_svn,
        "pce_svn": quote.pce_svn,
        "qe_vendor": quote.vendor_id.hex(),
        "user_data": quote.user_data.hex(),
        "attestation_key": quote.attestation_key.hex(),
        "bytes": len(content),
    }
    if quote.pck is not None:
        value["pck"] = describe_pck(quote.pck)
    qe = ReportBody.from_bytes(quote.qe_report)
    value["qe"] = {
        "mrenclave": qe.mrenclave.hex(),
        "mrsigner": qe.mrsigner.hex(),
        "isv_prod_id": qe.isv_prod_id,
        "isv_svn": qe.isv_svn,
    }
    return value


def describe_pck(pck: PckFacts) -> dict[str, Any]:
    """Return the facts of the SGX extension of a PCK certificate."""
    return {
        "ca": pck.ca,
        "serial": pck.serial.hex(),
        "ppid": pck.ppid.hex(),
        "fmspc": pck.fmspc.hex(),
        "pce_id": pck.pceid.hex(),
        "component_svn": list(pck.component_svn),
        "cpu_svn": pck.cpusvn.hex(),
        "pce_svn": pck.pcesvn,
        "sgx_type": pck.sgx_type,
        "platform_instance_id": pck.platform_instance_id.hex() if any(pck.platform_instance_id) else None,
        "dynamic_platform": pck.dynamic_platform,
        "cached_keys": pck.cached_keys,
        "smt_enabled": pck.smt_enabled,
        "not_before": pck.not_before,
        "not_after": pck.not_after,
    }


def _sgx(body: bytes) -> dict[str, Any]:
    report = ReportBody.from_bytes(body)
    return {
        "mrenclave": report.mrenclave.hex(),
        "mrsigner": report.mrsigner.hex(),
        "isv_prod_id": report.isv_prod_id,
        "isv_svn": report.isv_svn,
        "debug": bool(report.attributes_flags & FLAG_DEBUG),
        "report_data": report.report_data.hex(),
        "attributes": f"{report.attributes_flags:#x}",
        "xfrm": f"{report.xfrm:#x}",
        "misc_select": report.misc_select,
        "cpu_svn": report.cpu_svn.hex(),
        "config_id": report.config_id.hex(),
        "config_svn": report.config_svn,
        "isv_ext_prod_id": report.isv_ext_prod_id.hex(),
        "isv_family_id": report.isv_family_id.hex(),
    }


def _tdx(quote: ParsedQuote) -> dict[str, Any]:
    fields = quote.tdx_fields
    attributes = int.from_bytes(fields["td_attributes"], "little")
    return {
        "mrenclave": None,
        "mrsigner": None,
        "isv_prod_id": None,
        "isv_svn": None,
        "debug": bool(attributes & _TD_DEBUG),
        "report_data": fields["report_data"].hex(),
        **{name: value.hex() for name, value in fields.items() if name != "report_data"},
    }
