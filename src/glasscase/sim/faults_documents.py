"""Faults of TCB info and QE identity.

Source: docs/checks.md, areas tcbinfo, qe and platform.
"""

from collections.abc import Callable, Iterator
from typing import Any

from glasscase.sim.documents import compact, utc
from glasscase.sim.fault_model import Change, Fault, append, become, cut, edits, omit, other_key, signed_by, swap
from glasscase.sim.scene import Scene

Object = dict[str, Any]
_NAMES = {"tcb_info": ("tcbinfo", "tcbInfo"), "qe_identity": ("qe", "enclaveIdentity")}
_DATES = (
    ("date-with-offset", "2025-06-01T00:00:00+00:00"),
    ("date-with-fraction", "2025-06-01T00:00:00.5Z"),
    ("date-with-space", "2025-06-01 00:00:00Z"),
    ("date-lower-case-z", "2025-06-01T00:00:00z"),
    ("date-without-z", "2025-06-01T00:00:00"),
    ("date-only", "2025-06-01"),
    ("date-week", "2025-W22-7T00:00:00Z"),
    ("date-february-30", "2025-02-30T00:00:00Z"),
    ("date-february-29-no-leap-year", "2025-02-29T00:00:00Z"),
    ("date-month-13", "2025-13-01T00:00:00Z"),
    ("date-hour-24", "2025-06-01T24:00:00Z"),
    ("date-second-60", "2025-06-01T00:00:60Z"),
    ("date-arabic-digits", "\u0662\u0660\u0662\u0665-06-01T00:00:00Z"),
    ("date-empty", ""),
)


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    for name in _NAMES:
        yield from _of_document(name)
    yield from _of_tcb_info()
    yield from _of_qe_identity()


def _of_document(name: str) -> Iterator[Fault]:
    area, outer = _NAMES[name]

    def fault(what: str, check: str, change: Change) -> Fault:
        return Fault(f"{name.replace('_', '-')}-{what}", f"{area}.{check}", change)

    yield fault("missing", "document.missing", omit(name))
    yield fault("empty", "document.missing", edits(f"text.{name}", become(b"")))
    for what, change in _text_faults(name, outer):
        yield fault(what, "document.malformed", change)
    for what, text in _DATES:
        yield fault(f"issue-{what}", "document.malformed", _set(name, issueDate=text))
    yield fault("next-update-february-30", "document.malformed", _set(name, nextUpdate="2099-02-30T00:00:00Z"))
    for key in ("id", "version", "issueDate", "nextUpdate", "tcbEvaluationDataNumber"):
        yield fault(f"without-{key}", "document.malformed", _without(name, key))
    for what, value in (("text", "19"), ("negative", -1), ("boolean", True), ("fraction", 19.5), ("huge", 2**70)):
        yield fault(f"evaluation-number-{what}", "document.malformed", _set(name, tcbEvaluationDataNumber=value))
    yield fault("version-text", "document.malformed", _set(name, version="3"))
    yield fault("changed-after-signing", "document.bad_signature",
                edits(f"text.{name}", swap(b'"tcbEvaluationDataNumber":19', b'"tcbEvaluationDataNumber":18')))  # fmt: skip
    yield fault("signature-bit", "document.bad_signature", edits(f"text.{name}", _other_last_digit))
    yield fault("signature-zero", "document.bad_signature", _signature(name, b"0" * 128))
    yield fault("signature-r-zero", "document.bad_signature", _signature(name, b"0" * 64 + b"1" * 64))
    yield fault("signature-one-one", "document.bad_signature", _signature(name, (b"0" * 63 + b"1") * 2))
    yield fault("signed-by-stranger", "document.bad_signature", signed_by(name, lambda _: other_key()))
    yield fault("signed-by-root", "document.bad_signature", signed_by(name, lambda scene: scene.keys.root))
    yield fault("signed-by-pck", "document.bad_signature", signed_by(name, lambda scene: scene.keys.pck))
    yield fault("not-yet-valid", "document.not_yet_valid", _dates(name, 1, 86400))
    yield fault("expired-this-second", "document.expired", _dates(name, -86400, 0))
    yield fault("expired-long-ago", "document.expired", _dates(name, -86400 * 60, -86400 * 30))
    levels = "levels.malformed"
    yield fault("levels-empty", levels, _set(name, tcbLevels=[]))
    yield fault("level-twice", levels, _levels(name, lambda found: [*found, found[0]]))
    yield fault("level-unknown-status", levels, _first_level(name, tcbStatus="Fine"))
    yield fault("level-lower-case-status", levels, _first_level(name, tcbStatus="uptodate"))
    yield fault("level-bad-date", levels, _first_level(name, tcbDate="2025-08-32T00:00:00Z"))
    for key in ("tcb", "tcbDate", "tcbStatus"):
        yield fault(f"level-without-{key}", levels, _last_level_without(name, key))
    for what, text in (("empty", ""), ("of-65-characters", "INTEL-SA-" + "0" * 56)):
        yield fault(f"advisory-{what}", levels, _first_level(name, advisoryIDs=[text]))
    yield fault("levels-missing", "document.malformed", _without(name, "tcbLevels"))


def _text_faults(name: str, outer: str) -> Iterator[tuple[str, Change]]:
    """Texts that are no strict JSON; what stands inside the signed object is signed."""
    inner, text = f"json.{name}", f"text.{name}"
    key = outer.encode("ascii")
    yield "trailing-text", edits(text, append(b"x"))
    yield "truncated", edits(text, cut(1))
    yield "byte-order-mark", edits(text, lambda made: b"\xef\xbb\xbf" + made)
    yield "array", edits(text, lambda made: b"[" + made + b"]")
    yield "without-signature", edits(text, lambda made: made[: made.rindex(b',"signature"')] + b"}")
    yield "without-object", edits(text, swap(b'"' + key + b'":', b'"other":'))
    yield "object-twice", edits(text, lambda made: made[:-1] + b',"' + key + b'":{}}')
    yield "object-twice-first-forged", edits(text, lambda made: b'{"' + key + b'":{},' + made[1:])
    yield "signature-twice", edits(text, lambda made: made[:-1] + b',"signature":"00"}')
    yield "signature-short", edits(text, lambda made: made[:-4] + b'"}')
    yield "signature-long", edits(text, lambda made: made[:-2] + b'00"}')
    yield "signature-not-hex", edits(text, lambda made: made[:-3] + b'g"}')
    yield "signature-number", _signature(name, b"", quoted=False)
    yield "key-twice", edits(inner, swap(b'"version"', b'"tcbEvaluationDataNumber":19,' * 2 + b'"version"'))
    yield "escaped-key-twice", edits(inner, swap(b'"version"', b'"\\u0069d":"XX","version"'))
    yield "comment", edits(inner, swap(b'{"id"', b'{/* */"id"'))
    yield "single-quotes", edits(inner, swap(b'"id"', b"'id'"))
    yield "trailing-comma", edits(inner, lambda made: made[:-1] + b",}")
    yield "not-a-number", edits(inner, swap(b'{"id"', b'{"x":NaN,"id"'))
    yield "infinite", edits(inner, swap(b'{"id"', b'{"x":1e400,"id"'))
    yield "leading-zero", edits(inner, swap(b'"tcbEvaluationDataNumber":19', b'"tcbEvaluationDataNumber":019'))
    yield "exponent", edits(inner, swap(b'"tcbEvaluationDataNumber":19', b'"tcbEvaluationDataNumber":19e0'))
    yield "deep-arrays", edits(inner, swap(b'{"id"', b'{"x":' + b"[" * 2000 + b"]" * 2000 + b',"id"'))
    yield "deep-objects", edits(inner, swap(b'{"id"', b'{"x":' + b'{"y":' * 2000 + b"1" + b"}" * 2000 + b',"id"'))
    yield "control-character", edits(inner, swap(b'{"id"', b'{"x":"\x01","id"'))
    yield "nul", edits(inner, swap(b'{"id"', b'{"x":"\x00","id"'))
    yield "invalid-utf8", edits(inner, swap(b'{"id"', b'{"x":"\xff\xfe","id"'))
    yield "lone-surrogate", edits(inner, swap(b'{"id"', b'{"x":"\\ud800","id"'))
    yield "bad-escape", edits(inner, swap(b'{"id"', b'{"x":"\\x41","id"'))


def _of_tcb_info() -> Iterator[Fault]:
    def fault(what: str, check: str, change: Change) -> Fault:
        return Fault(f"tcb-info-{what}", check, change)

    malformed, levels = "tcbinfo.document.malformed", "tcbinfo.levels.malformed"
    yield fault("version-2", "tcbinfo.version.unsupported", _version_2)
    yield fault("version-4", "tcbinfo.version.unsupported", _set("tcb_info", version=4))
    yield fault("type-1", "tcbinfo.type.unsupported", _set("tcb_info", tcbType=1))
    yield fault("of-tdx", "tcbinfo.id.mismatch", _of_tdx)
    yield fault("says-tdx-has-sgx-levels", "tcbinfo.id.mismatch", _set("tcb_info", id="TDX"))
    yield fault("says-sgx-has-tdx-module", malformed, _tdx_module)
    yield fault("of-other-fmspc", "tcbinfo.fmspc.mismatch", _set("tcb_info", fmspc="00906ed50000"))
    yield fault("of-other-pceid", "tcbinfo.pceid.mismatch", _set("tcb_info", pceId="0001"))
    yield fault("fmspc-short", malformed, _set("tcb_info", fmspc="53494d554c"))
    yield fault("fmspc-not-hex", malformed, _set("tcb_info", fmspc="53494d554c4g"))
    yield fault("pceid-long", malformed, _set("tcb_info", pceId="000000"))
    for key in ("fmspc", "pceId", "tcbType"):
        yield fault(f"without-{key}", malformed, _without("tcb_info", key))
    for what, change in (
        ("fifteen-components", lambda c: c[:15]),
        ("seventeen-components", lambda c: [*c, {"svn": 0}]),
        ("one-component", lambda c: c[:1]),
        ("no-component", lambda _: []),
        ("component-256", lambda c: [{"svn": 256}, *c[1:]]),
        ("component-text", lambda c: [{"svn": "16"}, *c[1:]]),
        ("component-boolean", lambda c: [{"svn": True}, *c[1:]]),
        ("component-category-number", lambda c: [{**c[0], "category": 1}, *c[1:]]),
        ("component-type-object", lambda c: [{**c[0], "type": {"svn": 16}}, *c[1:]]),
        ("component-without-svn", lambda c: [{"category": "BIOS"}, *c[1:]]),
    ):
        yield fault(what, levels, _components(change))
    yield fault("component-negative", malformed, _components(lambda c: [{"svn": -1}, *c[1:]]))
    yield fault("pcesvn-65536", levels, _tcb(lambda tcb: {**tcb, "pcesvn": 65536}))
    yield fault("pcesvn-missing", levels, _tcb(lambda tcb: {"sgxtcbcomponents": tcb["sgxtcbcomponents"]}))
    yield fault("components-missing", levels, _tcb(lambda tcb: {"pcesvn": tcb["pcesvn"]}))
    yield fault("level-with-tdx-components", levels, _tcb(lambda tcb: {**tcb, "tdxtcbcomponents": [{"svn": 0}] * 16}))
    yield fault("advisories-not-a-list", levels, _first_level("tcb_info", advisoryIDs="INTEL-SA-00615"))
    yield fault("advisories-of-numbers", levels, _first_level("tcb_info", advisoryIDs=[615]))
    yield fault("level-revoked", "platform.tcb.revoked", _first_level("tcb_info", tcbStatus="Revoked"))
    yield fault("only-higher-levels", "platform.tcb.unsupported", _only_higher_levels)
    yield fault("is-qe-identity", malformed, _document_of("tcb_info", "qe_identity"))
    yield fault("object-is-array", malformed, edits("json.tcb_info", lambda made: b"[" + made + b"]"))


def _of_qe_identity() -> Iterator[Fault]:
    def fault(what: str, check: str, change: Change) -> Fault:
        return Fault(f"qe-identity-{what}", check, change)

    malformed = "qe.document.malformed"
    for version in (1, 3):
        yield fault(f"version-{version}", "qe.version.unsupported", _set("qe_identity", version=version))
    yield fault("of-qve", "qe.id.mismatch", _set("qe_identity", id="QVE"))
    yield fault("of-td-qe", "qe.id.mismatch", _set("qe_identity", id="TD_QE"))
    yield fault("other-miscselect", "qe.miscselect.mismatch", _set("qe_identity", miscselect="00000001"))
    yield fault("miscselect-outside-mask", "qe.miscselect.mismatch",
                _set("qe_identity", miscselect="00000001", miscselectMask="FFFFFFFE"))  # fmt: skip
    yield fault("other-attributes", "qe.attributes.mismatch",
                _set("qe_identity", attributes="13000000000000000000000000000000"))  # fmt: skip
    yield fault("attributes-outside-mask", "qe.attributes.mismatch",
                _set("qe_identity", attributes="15000000000000000000000000000000"))  # fmt: skip
    yield fault("other-mrsigner", "qe.mrsigner.mismatch", _set("qe_identity", mrsigner="00" * 32))
    yield fault("other-isvprodid", "qe.isvprodid.mismatch", _set("qe_identity", isvprodid=2))
    for key, value in (("mrsigner", "00" * 31), ("miscselect", "000000"), ("attributes", "11" * 15),
                       ("attributesMask", "FG" * 16), ("isvprodid", 65536)):  # fmt: skip
        yield fault(f"{key}-malformed", malformed, _set("qe_identity", **{key: value}))
        yield fault(f"without-{key}", malformed, _without("qe_identity", key))
    yield fault("without-miscselectMask", malformed, _without("qe_identity", "miscselectMask"))
    yield fault("level-sw-hardening", "qe.levels.malformed", _first_level("qe_identity", tcbStatus="SWHardeningNeeded"))
    yield fault("levels-ascending", "qe.levels.malformed", _levels("qe_identity", lambda found: found[::-1]))
    yield fault("level-svn-65536", "qe.levels.malformed", _first_level("qe_identity", tcb={"isvsvn": 65536}))
    yield fault("level-without-svn", "qe.levels.malformed", _first_level("qe_identity", tcb={}))
    yield fault("last-level-without-svn", "qe.levels.malformed", _levels(
        "qe_identity", lambda found: [*found[:-1], {**found[-1], "tcb": {}}]))  # fmt: skip
    yield fault("levels-with-equal-svns", "qe.levels.malformed", _levels(
        "qe_identity", lambda found: [found[0], {**found[0], "tcbStatus": "Revoked"}, *found[1:]]))  # fmt: skip
    yield fault("level-revoked", "qe.svn.revoked", _first_level("qe_identity", tcbStatus="Revoked"))
    yield fault("only-higher-levels", "qe.svn.unsupported",
                _levels("qe_identity", lambda found: [{**found[0], "tcb": {"isvsvn": 9}}]))  # fmt: skip
    yield fault("is-tcb-info", malformed, _document_of("qe_identity", "tcb_info"))


def _change(name: str, change: Callable[[Object], Object]) -> Change:
    return lambda scene: setattr(scene, name, change(getattr(scene, name)))


def _set(name: str, **fields: Any) -> Change:
    return _change(name, lambda value: {**value, **fields})


def _without(name: str, key: str) -> Change:
    return _change(name, lambda value: {other: item for other, item in value.items() if other != key})


def _levels(name: str, change: Callable[[list[Object]], list[Object]]) -> Change:
    return _change(name, lambda value: {**value, "tcbLevels": change(value.get("tcbLevels") or [_NO_LEVEL])})


_NO_LEVEL: Object = {"tcb": {"sgxtcbcomponents": [], "pcesvn": 0, "isvsvn": 0}}


def _first_level(name: str, **fields: Any) -> Change:
    return _levels(name, lambda found: [{**found[0], **fields}, *found[1:]])


def _last_level_without(name: str, key: str) -> Change:
    def cut_down(level: Object) -> Object:
        return {member: value for member, value in level.items() if member != key}

    return _levels(name, lambda found: [*found[:-1], cut_down(found[-1])])


def _tcb(change: Callable[[Object], Object]) -> Change:
    return _levels("tcb_info", lambda found: [{**found[0], "tcb": change(found[0]["tcb"])}, *found[1:]])


def _components(change: Callable[[list[Any]], list[Any]]) -> Change:
    return _tcb(lambda tcb: {**tcb, "sgxtcbcomponents": change(tcb.get("sgxtcbcomponents", []))})


def _version_2(scene: Scene) -> None:
    """A whole TCB info of version 2: no id, components as members of their own."""

    def flat(level: Object) -> Object:
        tcb = level["tcb"]
        svns = {f"sgxtcbcomp{n:02}svn": item.get("svn", 0) for n, item in enumerate(tcb.get("sgxtcbcomponents", []), 1)}
        return {**level, "tcb": {**svns, "pcesvn": tcb.get("pcesvn", 0)}}

    _levels("tcb_info", lambda found: [flat(level) for level in found])(scene)
    _without("tcb_info", "id")(scene)
    _set("tcb_info", version=2)(scene)


def _tdx_module(scene: Scene) -> None:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    _set("tcb_info", tdxModule=module)(scene)


def _of_tdx(scene: Scene) -> None:
    """A whole TCB info of a TDX platform of the same FMSPC."""
    components = [{"svn": 0}] * 16
    _levels("tcb_info", lambda found: [
        {**level, "tcb": {**level["tcb"], "tdxtcbcomponents": components}} for level in found])(scene)  # fmt: skip
    _tdx_module(scene)
    _set("tcb_info", id="TDX")(scene)


def _only_higher_levels(scene: Scene) -> None:
    _levels("tcb_info", lambda found: [{**found[0], "tcb": {**found[0]["tcb"], "pcesvn": 60000}}])(scene)


def _dates(name: str, issued: int, until: int) -> Change:
    return lambda scene: _set(name, issueDate=utc(scene.at + issued), nextUpdate=utc(scene.at + until))(scene)


def _signature(name: str, text: bytes, *, quoted: bool = True) -> Change:
    new = b'"signature":"' + text + b'"}' if quoted else b'"signature":1}'
    return edits(
        f"text.{name}", lambda made: made[: made.rindex(b'"signature"')] + new if b'"signature"' in made else new
    )


def _other_last_digit(made: bytes) -> bytes:
    return made[:-3] + (b"1" if made[-3:-2] == b"0" else b"0") + made[-2:]


def _document_of(name: str, other: str) -> Change:
    """Put the other document, genuine and signed by the same key, in the place of this one."""

    def apply(scene: Scene) -> None:
        outer = _NAMES[other][1].encode("ascii")
        text = compact(getattr(scene, other))
        signature = scene.keys.tcb_signer.sign_raw(text).hex().encode("ascii")
        scene.edit(f"text.{name}", become(b'{"%s":%s,"signature":"%s"}' % (outer, text, signature)))

    return apply
