"""Collateral: the seven objects that Intel signs about platforms, verbatim, and the files that carry them.

Invariants: signed texts are kept as they were served; nothing here is trusted before the core has checked it.
Source: docs/evidence-format.md, "Collateral".
"""

import re
from dataclasses import dataclass
from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.record import take_object
from glasscase.errors import FormatError

DOCUMENT_MAX = 1024 * 1024  # bytes: TCB info, QE identity
CHAIN_MAX = 64 * 1024  # bytes of PEM
CRL_MAX = 10 * 1024 * 1024  # bytes
FILE_MAX = 96 * 1024 * 1024  # bytes: two CRLs in hex and the rest, several platforms in files of Intel's tools
_ITEMS_MAX = 1 << 22  # commas and brackets: files of Intel's tools hold the levels of every platform
KIND = "glasscase-collateral"
ITEMS = (
    "root_ca_crl", "pck_crl", "pck_crl_issuer_chain", "tcb_info", "tcb_info_issuer_chain", "qe_identity",
    "qe_identity_issuer_chain",
)  # fmt: skip
LIMITS = {
    "root_ca_crl": CRL_MAX, "pck_crl": CRL_MAX, "pck_crl_issuer_chain": CHAIN_MAX, "tcb_info": DOCUMENT_MAX,
    "tcb_info_issuer_chain": CHAIN_MAX, "qe_identity": DOCUMENT_MAX, "qe_identity_issuer_chain": CHAIN_MAX,
}  # fmt: skip
CRLS = ("root_ca_crl", "pck_crl")

_DER_SEQUENCE = b"\x30"  # hex and PEM begin with other bytes
_MALFORMED = "collateral.file.malformed"
_PEM_CRL = r"-----BEGIN X509 CRL-----\n([A-Za-z0-9+/=\n]+)-----END X509 CRL-----\n?"
_CHAIN_HEADERS = {
    "pck": ("SGX-PCK-Certificate-Issuer-Chain",),
    "tcb": ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"),
    "qe": ("SGX-Enclave-Identity-Issuer-Chain",),
}


@dataclass(frozen=True, kw_only=True)
class Collateral:
    """The seven objects. CRLs are DER; chains PEM, leaf first; tcb_info and qe_identity the whole served documents.

    source: where they came from, in words. fetched_at: unix seconds, or 0 if not known. Both are copies, not facts.
    """

    root_ca_crl: bytes
    pck_crl: bytes
    pck_crl_issuer_chain: str
    tcb_info: str
    tcb_info_issuer_chain: str
    qe_identity: str
    qe_identity_issuer_chain: str
    source: str = ""
    fetched_at: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.fetched_at <= strictjson.INT_MAX:
            raise FormatError(_MALFORMED, "fetched_at is no time that JSON can hold", what="collateral")
        for name, limit in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, bytes if name in CRLS else str):
                raise FormatError(_MALFORMED, f"{name} is of another type than it must be", what="collateral")
            size = len(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))
            if size > limit:
                raise FormatError(
                    _MALFORMED, f"{name} has {size} bytes, at most {limit} are allowed", what="collateral"
                )

    def items(self) -> dict[str, bytes | str]:
        """Return the seven objects by name, for the core; an empty one is left out."""
        return {name: getattr(self, name) for name in ITEMS if getattr(self, name)}

    def fields(self) -> dict[str, Any]:
        """Return the keys of the CBOR form, CRLs as bytes."""
        return {
            "v": 1,
            "type": KIND,
            "source": self.source,
            "fetched_at": self.fetched_at,
            **{name: getattr(self, name) for name in ITEMS},
        }

    def to_json(self) -> dict[str, Any]:
        """Return the object of the JSON form, CRLs as hex of their DER."""
        return {key: value.hex() if isinstance(value, bytes) else value for key, value in self.fields().items()}

    def to_bytes(self) -> bytes:
        """Return our own file."""
        return strictjson.write(self.to_json())

    @classmethod
    def from_fields(cls, value: Any) -> "Collateral":
        """Return the collateral of decoded keys, CRLs as bytes; raises FormatError("collateral.file.malformed")."""
        # the texts are verbatim, so unlike other text of ours they hold line ends
        texts = {name: str for name in ITEMS if name not in CRLS}
        if not isinstance(value, dict):
            raise FormatError(_MALFORMED, "the collateral is not a map", what="collateral")
        plain = {key: "-" if key in texts and isinstance(item, str) else item for key, item in value.items()}
        fields = take_object(
            plain,
            kind=KIND,
            what="collateral",
            reason=_MALFORMED,
            required={"source": str, "fetched_at": int, "root_ca_crl": bytes, "pck_crl": bytes, **texts},
            optional={},
        )
        return cls(**{**fields, **{name: value[name] for name in texts}})


def parse_collateral(data: bytes, *, fmspc: bytes | None = None, ca: str | None = None) -> Collateral:
    """Return the collateral in any of the forms that are read.

    Our own file; the same seven keys without `type` (an eighth, pck_certificate_chain, is ignored); the JSON of Intel's
    offline administration tool, which may hold many platforms: fmspc (6 bytes) and ca ("processor" or "platform") choose.
    Raises FormatError: "collateral.file.malformed", "collateral.file.ambiguous" if a choice is needed and not given.
    """
    try:
        value = strictjson.parse(data, max_bytes=FILE_MAX, what="the file", max_items=_ITEMS_MAX)
    except FormatError as error:
        if error.reason != "codec.json.malformed":
            raise
        text = f"this is no collateral: {error.message if data else 'the file is empty'}"
        raise FormatError(_MALFORMED, text, what="collateral") from None
    if not isinstance(value, dict):
        raise FormatError(_MALFORMED, "the collateral is not a JSON object", what="collateral")
    if "type" in value:
        plain = dict(value)
        for name in CRLS:
            if not isinstance(value.get(name), str):
                raise FormatError(_MALFORMED, f"{name} must be hex of a DER CRL", what="collateral")
            plain[name] = _hex_crl(value[name], name)
        return Collateral.from_fields(plain)
    if isinstance(value.get("collaterals"), dict):
        return _from_offline_tool(value["collaterals"], fmspc, ca)
    return _from_corpus(value)


def signed_tcb_info(document: str | bytes) -> bytes:
    """Return the verbatim bytes that Intel signed in a served TCB info: the value of "tcbInfo". The beacon is their SHA-256.

    Raises FormatError("collateral.document.malformed") if the document is not exactly {"tcbInfo":{...},"signature":"hex"}.
    """
    return signed_value(document, "tcbInfo")


def signed_value(document: str | bytes, key: str) -> bytes:
    """Return the verbatim bytes of the signed object in {"KEY":{...},"signature":"..."}, in either order of the two keys."""
    text = document.encode("utf-8") if isinstance(document, str) else document
    value = strictjson.parse(text, max_bytes=DOCUMENT_MAX, what="signed document")
    if not isinstance(value, dict) or set(value) != {key, "signature"} or not isinstance(value[key], dict):
        raise FormatError("collateral.document.malformed", f"the document does not hold exactly {key} and signature")
    head = re.match(rb'\s*\{\s*(?:"signature"\s*:\s*"[^"\\]*"\s*,\s*)?"' + key.encode() + rb'"\s*:\s*', text)
    if head is None:
        raise FormatError("collateral.document.malformed", f"the document does not begin with {key}")
    return text[head.end() : _object_end(text, head.end())]


def _object_end(text: bytes, start: int) -> int:
    """Return the offset after the object that begins at `start`; the text is known to be JSON."""
    depth = 0
    for match in re.finditer(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)|[{}]', text[start:], re.DOTALL):
        depth += {b"{": 1, b"}": -1}.get(match[0], 0)
        if depth == 0:
            return start + match.end()
    raise FormatError("collateral.document.malformed", "the signed object does not end")


def crl_der(body: bytes) -> bytes:
    """Return the DER of a CRL that a server sent: DER itself, its hex, or PEM. Raises FormatError."""
    if body[:1] == _DER_SEQUENCE:
        return body
    try:
        return _crl(body.decode("ascii").strip(), "CRL")
    except UnicodeDecodeError:
        raise FormatError(_MALFORMED, "the CRL is neither DER, hex nor PEM", what="collateral") from None


def _hex_crl(text: str, name: str) -> bytes:
    if len(text) > 2 * CRL_MAX:
        raise FormatError(_MALFORMED, f"{name} is longer than {CRL_MAX} bytes", what="collateral")
    if text == "" or not re.fullmatch(r"(?:[0-9a-f]{2})*", text, re.ASCII):
        raise FormatError(_MALFORMED, f"{name} must be lower-case hex of a DER CRL", what="collateral")
    return bytes.fromhex(text)


def _crl(value: Any, name: str) -> bytes:
    """Return the DER of a CRL given as hex or PEM."""
    if not isinstance(value, str):
        raise FormatError(_MALFORMED, f"{name} must be text", what="collateral")
    match = re.fullmatch(_PEM_CRL, value) if value.startswith("-") else None
    if match is None:
        return _hex_crl(value.lower(), name)
    import base64
    import binascii

    try:
        return base64.b64decode(match[1].replace("\n", ""), validate=True)
    except (ValueError, binascii.Error):
        raise FormatError(_MALFORMED, f"{name} is not a CRL in PEM", what="collateral") from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(_MALFORMED, f"{name} must be text", what="collateral")
    return value


def _from_corpus(value: dict[str, Any]) -> Collateral:
    """Read the seven keys; a missing one stays empty, so that the verdict can name it."""
    unknown = set(value) - set(ITEMS) - {"pck_certificate_chain"}
    if unknown or not set(value) & set(ITEMS):
        name = sorted(unknown)[0] if unknown else "nothing that collateral has"
        raise FormatError(_MALFORMED, f"this is not collateral: it holds {name[:64]!r}", what="collateral")
    fields: dict[str, Any] = {}
    for name in ITEMS:
        if name in CRLS:
            fields[name] = _crl(value[name], name) if name in value else b""
        else:
            fields[name] = _text(value.get(name, ""), name)
    return Collateral(**fields)


def _from_offline_tool(value: dict[str, Any], fmspc: bytes | None, ca: str | None) -> Collateral:
    """Read the object that Intel's PCCS administration tool writes after `fetch`."""
    from urllib.parse import unquote

    chains = value.get("certificates")
    crls = value.get("pckcacrl")
    infos = value.get("tcbinfos")
    if not isinstance(chains, dict) or not isinstance(crls, dict) or not isinstance(infos, list):
        raise FormatError(_MALFORMED, "the file of the offline tool lacks certificates, pckcacrl or tcbinfos")
    wanted = ca or _only([name for name in ("processor", "platform") if crls.get(f"{name}Crl")], "CA")
    crl_chain = _header(chains, "pck")
    chain = crl_chain.get(wanted.upper(), crl_chain.get(wanted, "")) if isinstance(crl_chain, dict) else crl_chain
    found = [
        info
        for info in infos
        if isinstance(info, dict) and isinstance(info.get("fmspc"), str)
        and (fmspc is None or info["fmspc"].lower() == fmspc.hex())
    ]  # fmt: skip
    info = _only(found, "FMSPC") if found else {}
    document = info.get("sgx_tcbinfo", info.get("tcbinfo", ""))
    return Collateral(
        root_ca_crl=_crl(value.get("rootcacrl"), "rootcacrl"),
        pck_crl=_crl(crls.get(f"{wanted}Crl"), f"{wanted}Crl"),
        pck_crl_issuer_chain=unquote(_text(chain, "PCK issuer chain")),
        tcb_info=_compact(document),
        tcb_info_issuer_chain=unquote(_text(_header(chains, "tcb"), "TCB info issuer chain")),
        qe_identity=_compact(value.get("qeidentity", "")),
        qe_identity_issuer_chain=unquote(_text(_header(chains, "qe"), "QE identity issuer chain")),
        source="file of an offline collateral tool",
    )


def _header(chains: dict[str, Any], kind: str) -> Any:
    lowered = {name.lower(): value for name, value in chains.items()}
    return next((lowered[name.lower()] for name in _CHAIN_HEADERS[kind] if name.lower() in lowered), "")


def _compact(document: Any) -> str:
    """Return the text that Intel served: as it is, or an object written again in Intel's compact form, in its order."""
    import json

    return document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _only(found: list[Any], what: str) -> Any:
    if len(found) != 1:
        raise FormatError(
            "collateral.file.ambiguous",
            f"the file holds collateral for {len(found)} values of {what}",
            hint="name the quote, so that the right one can be chosen",
            what="collateral",
        )
    return found[0]
