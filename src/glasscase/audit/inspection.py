"""What a file is and what it says, without any trust: nothing here is verified, and every answer says so by its kind alone.

Invariants: the answer begins with `kind`; bytes that are no known kind are an error; no secret is shown.
Source: docs/evidence-format.md; README.md, "Files".
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

from glasscase.audit import certificates, messages, quotes
from glasscase.audit.untrusted import length, table
from glasscase.codec import strictjson
from glasscase.collateral.model import ITEMS as COLLATERAL_ITEMS
from glasscase.errors import FormatError

INSPECT_MAX = 96 * 1024 * 1024  # bytes
_ITEMS_MAX = 1 << 23  # commas and brackets of a file in JSON: an index of that many bytes has fewer
_UNKNOWN = "inspect.kind.unknown"
_MAGIC_ENCRYPTED = b"\x89GLASS\r\n"
_MAGIC_SIGSTRUCT = bytes.fromhex("06000000e10000000000010000000000")
_SIGSTRUCT_SIZE = 1808
_KEY_SIZE = 32
_QUOTE_VERSIONS = (3, 4, 5)
_LEDGER_BEGIN = re.compile(rb'\{"bundle_id":"[^"\n]*","isv_svn":\d+,"kind":"')
_TOML_BEGIN = re.compile(rb"\s*(#[^\n]*\n\s*)*(\[[A-Za-z]|[A-Za-z_][A-Za-z0-9_.\"-]*\s*=)")


def inspect_bytes(content: bytes) -> dict[str, Any]:
    """Return what these bytes are and say, `kind` first.

    Raises FormatError: "inspect.kind.unknown" if they are no file that is known, or the fault of the kind that they look like.
    """
    return _reader(content)(content)


def _reader(content: bytes) -> Callable[[bytes], dict[str, Any]]:
    begin = content.lstrip(b" \t\r\n")[:1]
    if content.startswith(_MAGIC_ENCRYPTED):
        return _encrypted
    if len(content) == _SIGSTRUCT_SIZE and content.startswith(_MAGIC_SIGSTRUCT):
        return _sigstruct
    if content.lstrip(b" \t\r\n").startswith(b"-----BEGIN "):
        return certificates.describe_pem
    if len(content) == _KEY_SIZE and not (begin == b"{" and content.isascii()):
        return _package_key  # before all short beginnings: random bytes may begin like anything
    if begin == b"{":
        return _ledger if _LEDGER_BEGIN.match(content) else _json
    if content[:1] == b"\x30":
        return certificates.describe_der
    if content[:1] and (0xA0 <= content[0] <= 0xBF or content[0] in (0xD2, 0xD8)):
        return messages.describe_cbor
    if len(content) >= 48 and int.from_bytes(content[:2], "little") in _QUOTE_VERSIONS:
        return quotes.describe_quote
    if _TOML_BEGIN.match(content[:65536]):
        return _toml
    if content.startswith(b"glasscase-imports "):
        return _imports
    raise _unknown(content)


def _unknown(content: bytes) -> FormatError:
    what = "an empty file" if not content else f"{len(content)} bytes beginning with {content[:8].hex()}"
    return FormatError(
        _UNKNOWN, f"{what} is no file that is known here", hint="known: quote, evidence, collateral, certificate, SIGSTRUCT, "
        "manifest, bundle, key, envelope, receipt, statement, policy, lock, ledger, encrypted file",
    )  # fmt: skip


def _encrypted(content: bytes) -> dict[str, Any]:
    if len(content) < 128:
        raise FormatError(_UNKNOWN, "an encrypted file has a header of 128 bytes", hint="the file is truncated")
    version, suite, kind = content[8], content[9], content[10]
    if version > 1:
        raise FormatError("format.newer", f"the encrypted file has version {version}, this tool knows 1")
    size = int.from_bytes(content[48:56], "big")
    return {
        "kind": "encrypted-file",
        "version": version,
        "suite": {2: "Cobblestone-256"}.get(suite, str(suite)),
        "content": {0: "file", 1: "package manifest", 2: "package blob"}.get(kind, str(kind)),
        "plaintext_size": None if size == 2**64 - 1 else size,
        "package_id": content[16:32].hex(),
        "blob_id": content[32:48].hex(),
        "key_id": content[56:72].hex(),
        "bytes": len(content),
    }


def _package_key(content: bytes) -> dict[str, Any]:
    from glasscase.core.chunks import Key

    return {"kind": "key", "type": "package", "id": Key(content).id.hex(), "secret": True}


def _sigstruct(content: bytes) -> dict[str, Any]:
    from glasscase.sgx.sigstruct import Sigstruct

    signature = Sigstruct.from_bytes(content)
    return {
        "kind": "sigstruct",
        "mrenclave": signature.mrenclave.hex(),
        "mrsigner": signature.mrsigner.hex(),
        "isv_prod_id": signature.isv_prod_id,
        "isv_svn": signature.isv_svn,
        "debug": bool(signature.attributes_flags & 2),
        "attributes": f"{signature.attributes_flags:#x}",
        "attributes_mask": f"{signature.flags_mask:#x}",
        "xfrm": f"{signature.xfrm:#x}",
        "xfrm_mask": f"{signature.xfrm_mask:#x}",
        "misc_select": signature.misc_select,
        "misc_mask": f"{signature.misc_mask:#x}",
        "date": signature.date,
    }


def _json(content: bytes) -> dict[str, Any]:
    value = strictjson.parse(content, max_bytes=INSPECT_MAX, what="file", max_items=_ITEMS_MAX)
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "glasscase-bundle":
        from glasscase.bundle.index import BundleIndex

        return messages.describe_index(BundleIndex.from_bytes(content), hashlib.sha256(content).digest())
    if kind == "glasscase-opening":
        return {
            "kind": "opening",
            **{name: value[name] for name in sorted(value) if name not in ("type", "v", "kind", "opening")},
        }
    if kind == "glasscase-private":
        known = ("bundle_id", "mrenclave", "commitment", "package_digest")
        return {
            "kind": "private",
            **{name: value.get(name) for name in known},
            "entries": length(value.get("entries")),
        }
    if kind == "glasscase-evidence":
        from glasscase.evidence.format import from_json

        return messages.describe_evidence(from_json(content))
    if "ratls_certificate" in value:
        return certificates.describe_predecessor(value)
    if "payloadType" in value:
        return messages.describe_statement(content)
    if value.get("bomFormat") == "CycloneDX":
        return {"kind": "bom", "components": length(value.get("components"))}
    if value.get("_type") == "https://in-toto.io/Statement/v1":
        return {
            "kind": "statement",
            "signed": False,
            "predicate_type": value.get("predicateType"),
            "subject": value.get("subject"),
        }
    if "tcbInfo" in value or "enclaveIdentity" in value:
        return messages.describe_signed_document(value)
    if kind == "glasscase-collateral" or set(value) & {*COLLATERAL_ITEMS, "collaterals"}:
        return messages.describe_collateral(content)
    raise _unknown(content)


def _ledger(content: bytes) -> dict[str, Any]:
    from glasscase.statements.ledger import NO_KEY, parse_ledger

    lines = parse_ledger(content, public_key=NO_KEY)
    retired = sum(line.kind == "retire" for line in lines)
    return {"kind": "ledger", "lines": len(lines), "retired": retired, "head": lines[-1].digest.hex()}


def _toml(content: bytes) -> dict[str, Any]:
    from glasscase.codec import stricttoml

    try:
        value = stricttoml.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _unknown(content) from None
    if "loader" in value or "sgx" in value or "libos" in value:
        return messages.describe_manifest(content)
    if "measurement" in value:
        from glasscase.verify.policy import parse_policy

        return messages.describe_policy(parse_policy(content))
    if "requirements" in value and "runtime" in value:
        from glasscase.lock.model import Lock

        lock = Lock.from_bytes(content)
        return {
            "kind": "lock",
            "tool": lock.tool,
            "runtime": f"{lock.runtime.name} {lock.runtime.version}",
            "wheels": len(lock.wheels),
            "packages": len(lock.debian.packages) if lock.debian else 0,
        }
    if "app" in value and "version" in value:
        app = table(value, "app")
        return {"kind": "project", "name": app.get("name"), "entry": app.get("entry")}
    raise _unknown(content)


def _imports(content: bytes) -> dict[str, Any]:
    lines = content.decode("utf-8", "replace").splitlines()[1:]
    return {"kind": "imports", "lines": len(lines), "extensions": sum(1 for line in lines if line.startswith("x "))}
