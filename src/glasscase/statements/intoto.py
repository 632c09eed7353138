"""in-toto statements: "I rebuilt this and got this MRENCLAVE", "I verified this evidence", "this is the head of the ledger".

Invariants: a statement is cJSON, so equal statements have equal bytes; only a rebuild counts for m of n, and only once for
each key.
Source: docs/policy.md, "Statements"; in-toto Statement v1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.hexid import from_hex
from glasscase.errors import FormatError
from glasscase.statements.dsse import STATEMENT_MAX, read_dsse

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
REPRODUCTION = "urn:glasscase:reproduction:v1"
VERIFICATION = "urn:glasscase:verification:v1"
LEDGER_HEAD = "urn:glasscase:ledger-head:v1"
METHODS = ("key", "opening", "public")
_MALFORMED = "statements.statement.malformed"

# predicate type: (required keys with their types, optional ones)
_PREDICATES: dict[str, tuple[dict[str, type], dict[str, type]]] = {
    REPRODUCTION: (
        {"tool": str, "method": str, "lock": str, "at": int, "simulated": bool}, {"source": dict, "expires": int},
    ),
    VERIFICATION: (
        {"tool": str, "evidence": str, "policy": str, "engine": str, "at": int, "valid_until": int, "simulated": bool}, {},
    ),
    LEDGER_HEAD: ({"n": int, "head": str, "at": int}, {}),
}  # fmt: skip
_DIGESTS = ("lock", "evidence", "policy", "head")


@dataclass(frozen=True)
class Statement:
    """What a statement says. mrenclave, bundle_id: 32 bytes, or None where the statement has no such subject."""

    mrenclave: bytes | None
    bundle_id: bytes | None
    predicate_type: str
    predicate: dict[str, Any]

    def to_bytes(self) -> bytes:
        """Return the payload, cJSON."""
        subjects: list[dict[str, Any]] = []
        if self.mrenclave is not None:
            subjects.append({"name": "MRENCLAVE", "digest": {"sgxMrEnclave": self.mrenclave.hex()}})
        if self.bundle_id is not None:
            subjects.append({"name": "bundle", "digest": {"sha256": self.bundle_id.hex()}})
        return strictjson.write_canonical(
            {
                "_type": STATEMENT_TYPE,
                "subject": subjects,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Statement":
        """Return a statement of one of our predicate types; raises FormatError("statements.statement.malformed")."""
        value = strictjson.parse_canonical(payload, max_bytes=STATEMENT_MAX, what="statement")
        if not isinstance(value, dict) or set(value) != {"_type", "subject", "predicateType", "predicate"}:
            raise _fault("the statement has other keys than an in-toto statement")
        kind = value["predicateType"]
        if value["_type"] != STATEMENT_TYPE or not isinstance(kind, str) or kind not in _PREDICATES:
            raise _fault("the statement is of another type")
        subjects = _subjects(value["subject"])
        _check_predicate(kind, value["predicate"])
        return cls(subjects.get("MRENCLAVE"), subjects.get("bundle"), kind, value["predicate"])


def vouching_keys(
    files: Sequence[bytes], *, mrenclave: bytes, keys: tuple[bytes, ...], at_unix: int
) -> tuple[bytes, ...]:
    """Return those of the keys that vouch for this measurement: a rebuild that counts at `at_unix`, distinct by key bytes.

    A file that is malformed, about something else, expired, from the future or simulated counts for nothing.
    """
    found: list[bytes] = []
    for data in files:
        try:
            signed = read_dsse(data)
            statement = Statement.from_bytes(signed.payload)
        except FormatError:
            continue
        if _counts(statement, mrenclave, at_unix):
            found += [key for key in signed.signers(keys) if key not in found]
    return tuple(found)


def _counts(statement: Statement, mrenclave: bytes, at_unix: int) -> bool:
    predicate = statement.predicate
    return (
        statement.predicate_type == REPRODUCTION
        and statement.mrenclave == mrenclave
        and predicate["simulated"] is False
        and predicate["at"] <= at_unix < predicate.get("expires", at_unix + 1)
    )


def _subjects(value: Any) -> dict[str, bytes]:
    algorithms = {"MRENCLAVE": "sgxMrEnclave", "bundle": "sha256"}
    if not isinstance(value, list) or len(value) > len(algorithms):
        raise _fault("the subjects of the statement are not a short list")
    found: dict[str, bytes] = {}
    for subject in value:
        if not isinstance(subject, dict) or set(subject) != {"name", "digest"} or subject["name"] not in [*algorithms]:
            raise _fault("a subject of the statement is neither MRENCLAVE nor bundle")
        name, digest = subject["name"], subject["digest"]
        if name in found or not isinstance(digest, dict) or set(digest) != {algorithms[name]}:
            raise _fault("a subject of the statement stands twice or has another digest")
        text = digest[algorithms[name]]
        found[name] = from_hex(text if isinstance(text, str) else "", 32, f"digest of {name}")
    return found


def _check_predicate(kind: str, predicate: Any) -> None:
    required, optional = _PREDICATES[kind]
    if not isinstance(predicate, dict) or not set(required) <= set(predicate) <= set(required) | set(optional):
        raise _fault("the predicate of the statement has other keys than its type")
    for name, value in predicate.items():
        if not _fits(value, required.get(name, optional.get(name, str))):
            raise _fault(f"{name} of the statement has another type")
        if name in _DIGESTS:
            from_hex(value, 32, name)
    if kind == REPRODUCTION and predicate["method"] not in METHODS:
        raise _fault("the method of the rebuild is not a known one")
    if "source" in predicate:
        source = predicate["source"]
        if set(source) != {"uri", "commit"} or not all(isinstance(text, str) for text in source.values()):
            raise _fault("source of the statement is not uri and commit")


def _fits(value: Any, wanted: type) -> bool:
    """Return whether a value is exactly of a type; integers are unsigned."""
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, wanted)


def _fault(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, what="statement")
