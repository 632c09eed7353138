"""The JSON form of evidence, and reading either form.

Invariants: JSON and CBOR map to each other without loss, so both forms of the same evidence have the same id.
Source: docs/evidence-format.md, "Two forms".
"""

from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.hexid import from_base64url, from_hex, to_base64url
from glasscase.codec.version import require_version
from glasscase.collateral.model import CRLS
from glasscase.errors import FormatError
from glasscase.evidence.model import EVIDENCE_JSON_MAX, Evidence

_MALFORMED = "evidence.file.malformed"
_HEX = {"bundle_id": 32, "nonce": 32}  # values of a fixed length: hex
_BASE64URL = ("quote", "claims", "certificate", "request")
_PROVISION = ("envelope", "receipt")
_WHITE = b" \t\r\n"


def to_json(evidence: Evidence) -> bytes:
    """Return the JSON form: hex for fixed lengths and CRLs, base64url for other bytes."""
    value = evidence.fields()
    for name in _HEX:
        if name in value:
            value[name] = value[name].hex()
    for name in _BASE64URL:
        if name in value:
            value[name] = to_base64url(value[name])
    if "provision" in value:
        value["provision"] = {name: to_base64url(value["provision"][name]) for name in _PROVISION}
    if evidence.collateral is not None:
        value["collateral"] = evidence.collateral.to_json()
    return strictjson.write(value)


def from_json(data: bytes) -> Evidence:
    """Return the evidence of a JSON document; raises FormatError like Evidence.from_cbor."""
    value = strictjson.parse(data, max_bytes=EVIDENCE_JSON_MAX, what="evidence")
    if not isinstance(value, dict):
        raise FormatError(_MALFORMED, "the evidence is not a JSON object", what="evidence")
    require_version(value.get("v"), "evidence")
    for name, size in _HEX.items():
        if name in value:
            value[name] = from_hex(_text(value[name], name), size, name)
    for name in _BASE64URL:
        if name in value:
            value[name] = from_base64url(_text(value[name], name), name)
    if isinstance(value.get("provision"), dict):
        value["provision"] = {
            name: from_base64url(_text(item, name), name) for name, item in value["provision"].items()
        }
    if isinstance(value.get("collateral"), dict):
        value["collateral"] = _collateral(value["collateral"])
    return Evidence.from_fields(value)


def parse_evidence(data: bytes) -> Evidence:
    """Return the evidence in JSON or CBOR, told apart by the first byte."""
    if data.lstrip(_WHITE)[:1] == b"{":
        return from_json(data)
    return Evidence.from_cbor(data)


def _collateral(value: dict[str, Any]) -> dict[str, Any]:
    require_version(value.get("v"), "collateral")
    found = dict(value)
    for name in CRLS:
        if name not in value:
            continue  # which is said when its keys are looked at
        text = _text(value[name], name)
        if len(text) % 2:
            raise FormatError(_MALFORMED, f"{name} is not hex", what="evidence")
        found[name] = from_hex(text, len(text) // 2, name)
    return found


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(_MALFORMED, f"{name} must be text", what="evidence")
    return value
