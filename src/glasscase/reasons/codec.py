"""Ids of the area `codec`: CBOR, JSON, hex and base64url."""

from glasscase.reasons.model import Reason

_RULES = "docs/evidence-format.md, rules for all"

REASONS: tuple[Reason, ...] = (
    Reason("codec.cbor.malformed", "format", "the bytes are not deterministic CBOR of the allowed types", _RULES,
           "get the file again from who made it; nothing else may be written in its place"),
    Reason("codec.cbor.oversize", "format", "the object is larger than its kind may be", _RULES,
           "check that the right file was given"),
    Reason("codec.json.malformed", "format", "the text is not strict JSON", _RULES,
           "no duplicate keys, floats, byte order mark or lone surrogates; integers of 53 bits"),
    Reason("codec.json.noncanonical", "format", "the JSON is not in the one spelling that is hashed", _RULES,
           "get the file again; an editor may have re-formatted it"),
    Reason("codec.json.oversize", "format", "the document is larger than its kind may be", _RULES,
           "check that the right file was given"),
    Reason("codec.hex.malformed", "format", "a value is not the right number of lower-case hex digits", _RULES,
           "write exactly the digits that the message names"),
    Reason("codec.base64.malformed", "format", "a value is not base64url without padding", _RULES,
           "use the URL alphabet and no equals signs"),
    Reason("codec.version.malformed", "format", "the version is missing or is not the integer 1", _RULES,
           "check that the right file was given"),
    Reason("format.newer", "format", "the file is of a newer format than this tool knows", _RULES,
           "use a newer glasscase"),
)  # fmt: skip
