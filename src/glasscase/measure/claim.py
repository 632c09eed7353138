"""A measurement as somebody's JSON object says it, for `why`.

Invariants: read_measurement(what measure.document writes) gives the measurement back. It is a claim: nothing is recomputed.
Source: docs/bundle-format.md, "Measurement".
"""

import re
from collections.abc import Mapping
from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.hexid import from_hex
from glasscase.codec.record import take_list, take_map
from glasscase.errors import FormatError
from glasscase.measure.mrenclave import Area, Measurement

DOCUMENT_MAX = 16 << 20  # bytes
_REASON = "measure.document.malformed"
_NUMBERS = (
    "enclave_size", "pages_measured", "pages_added", "attributes", "xfrm", "misc_select", "isv_prod_id", "isv_svn",
    "max_threads",
)  # fmt: skip
_FIELDS: Mapping[str, type | int] = {
    **dict.fromkeys(_NUMBERS, int), "mrenclave": str, "xfrm_mask": str, "edmm": bool, "debug": bool, "areas": list,
}  # fmt: skip
_OPTIONAL: Mapping[str, type | int] = {"explain": dict, "regions": list, "forecast": dict}
_AREAS_MAX = 20_000
_NAME = re.compile(r"[a-z_]{1,32}")


def read_measurement(data: bytes) -> Measurement:
    """Return the measurement that a JSON document claims; raises FormatError("measure.document.malformed")."""
    value = strictjson.parse(data, max_bytes=DOCUMENT_MAX, what="measurement")
    body = take_map(value, what="measurement", reason=_REASON, required=_FIELDS, optional=_OPTIONAL)
    rows = take_list(body["areas"], dict, what="areas", reason=_REASON, limit=_AREAS_MAX)
    return Measurement(
        mrenclave=from_hex(body["mrenclave"], 32, "mrenclave"),
        attributes_flags=body["attributes"],
        xfrm=body["xfrm"],
        xfrm_mask=int.from_bytes(from_hex(body["xfrm_mask"], 8, "xfrm_mask"), "big"),
        misc_select=body["misc_select"],
        enclave_size=body["enclave_size"],
        isv_prod_id=body["isv_prod_id"],
        isv_svn=body["isv_svn"],
        max_threads=body["max_threads"],
        edmm=body["edmm"],
        pages_measured=body["pages_measured"],
        pages_added=body["pages_added"],
        areas=tuple(_area(row, body["enclave_size"]) for row in rows),
    )


def _area(row: Any, enclave_size: int) -> Area:
    fields: Mapping[str, type | int] = {"name": str, "start": int, "size": int, "measured": bool, "permissions": str}
    taken = take_map(row, what="an area", reason=_REASON, required=fields, optional={})
    start, size = taken["start"], taken["size"]
    if start + size > enclave_size or not _NAME.fullmatch(taken["name"]):
        raise FormatError(
            _REASON, "an area of the measurement has no plain name or lies outside of the enclave", what="measurement"
        )
    if taken["permissions"] != "tcs" and not _is_permission(taken["permissions"]):
        raise FormatError(_REASON, f"{taken['permissions']!r} are no permissions", what="measurement")
    return Area(taken["name"], start, size, taken["measured"], taken["permissions"])


def _is_permission(text: str) -> bool:
    return len(text) == 3 and all(letter in ("-", full) for letter, full in zip(text, "rwx", strict=True))
