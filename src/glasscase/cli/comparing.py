"""The verbs `why` and `map`."""

import hashlib
import html
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape, verb
from glasscase.cli.reading import bundle_files, read_argument
from glasscase.errors import UsageError

if TYPE_CHECKING:
    from glasscase.bundle.index import Bundle
    from glasscase.gramine.layout import EnclaveLayout
    from glasscase.measure.compare import Cause, Place
    from glasscase.measure.mrenclave import Measurement

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class _Subject:
    """One side of a comparison, as far as it is known. lone: it is a manifest that --libpal is for."""

    label: str
    mrenclave: bytes | None = None
    document: dict[str, Any] | None = None
    plan: "EnclaveLayout | None" = None
    measurement: "Measurement | None" = None
    bundle: "Bundle | None" = None
    text: bytes | None = None
    lone: bool = False


@verb("why", help="Say why two bundles, manifests or measurements differ. Exit 0 if they do not, 6 if they do.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--libpal", metavar="PAL", help="The libpal.so of both manifests, to measure them too.")
@click.option("--html", "html_path", metavar="FILE", help="Write the answer as a page too.")
def why(out: Output, before: str, after: str, libpal: str | None, html_path: str | None) -> int:
    """Print the causes, those that are measured first."""
    from glasscase.cli.reading import require_not_read
    from glasscase.fs.atomic import write_file
    from glasscase.measure.compare import first_difference

    require_not_read(html_path, "--html")
    one, two = _subjects((before, after), libpal)
    for item in (one, two):
        if item.bundle:
            _warn_if_unsound(out, item.bundle)
    causes = _causes(one, two)
    place = first_difference(one.plan, two.plan) if one.plan and two.plan else None
    value = {
        "same": not causes,
        "mrenclave": [item.mrenclave.hex() if item.mrenclave else None for item in (one, two)],
        "causes": [vars(cause) for cause in causes],
        "first_page": {"address": place.address, "area": place.area, "offset": place.offset} if place else None,
    }
    lines = _lines(out, one, two, causes, place)
    if html_path:
        write_file(html_path, _page(one, two, causes, place))
        out.say(f"wrote     {html_path}")
    out.result(value, "\n".join(lines))
    return exitcodes.DIFFERS if causes else exitcodes.OK


@verb("map", help="Draw the memory of an enclave: measured, added but not measured, reserved.")
@click.argument("subject", metavar="BUNDLE")
@click.argument("other", metavar="[B]", required=False)
@click.option("--libpal", metavar="PAL", help="The libpal.so, if BUNDLE is a manifest.sgx.")
@click.option("--diff", is_flag=True, help="Draw two columns, A and B, with the regions that differ marked.")
@click.option("--svg", metavar="FILE", help="Write the picture as SVG too.")
def map(out: Output, subject: str, other: str | None, **options: Any) -> int:  # noqa: A001 - the verb's name
    """Print the memory map."""
    from glasscase.cli.reading import require_not_read
    from glasscase.fs.atomic import write_file
    from glasscase.measure.document import measurement_document
    from glasscase.measure.drawing import draw_difference, draw_svg, draw_text, forecast, regions

    libpal, svg = options["libpal"], options["svg"]
    require_not_read(svg, "--svg")
    if options["diff"] != (other is not None):
        raise UsageError("cli.usage.wrong", "--diff takes two bundles, without it map takes one", hint="map --diff A B")
    paths = (subject,) if other is None else (subject, other)
    measured = [_measured(item, path) for item, path in zip(_subjects(paths, libpal), paths, strict=True)]
    if svg:
        write_file(svg, draw_svg(measured))
        out.say(f"wrote     {svg}")
    lines = draw_text(measured[0]) if other is None else draw_difference(measured[0], measured[1])
    maps = [
        measurement_document(item) | {"regions": [vars(region) for region in regions(item)], "forecast": forecast(item)}
        for item in measured
    ]
    out.result(maps[0] if other is None else {"before": maps[0], "after": maps[1]}, "\n".join(lines))
    return 0


def _warn_if_unsound(out: Output, bundle: "Bundle") -> None:
    """Say so if a bundle's claims are not true; the comparison goes on."""
    from glasscase.bundle.check import check_bundle
    from glasscase.cli.pinned import trusted_pins
    from glasscase.errors import Error

    try:
        problems = check_bundle(bundle.path, runtimes=trusted_pins()).problems
    except Error as error:
        out.warn(escape(f"{bundle.path} is not sound: {error.message} [{error.reason}]"))
        return
    if problems:
        out.warn(escape(f"{bundle.path} is not sound: {problems[0].text} [{problems[0].id}]"))


def _measured(subject: _Subject, path: str) -> "Measurement":
    if subject.measurement is None:
        what, hint = ("a manifest", "give --libpal PAL too") if subject.lone else ("the digits of an MRENCLAVE", "")
        hint = hint or "give the bundle, or what measure --json says of it"
        raise UsageError("cli.usage.wrong", f"{path!r} is {what}, which alone has no memory map", hint=hint)
    return subject.measurement


def _subjects(paths: tuple[str, ...], libpal: str | None) -> tuple[_Subject, ...]:
    """Return what the paths are; raises UsageError if --libpal is given and none of them is a manifest."""
    found = tuple(_subject(path, libpal) for path in paths)
    if libpal and not any(subject.lone for subject in found):
        given = " and ".join(repr(path) for path in paths)
        raise UsageError(
            "cli.usage.wrong", f"--libpal is for a manifest, and none is given: {given}",
            hint="leave --libpal away: a bundle and a measurement say themselves what was measured",
        )  # fmt: skip
    return found


def _subject(path: str, libpal: str | None) -> _Subject:
    """Return what a path is: a bundle, a measurement in JSON, a manifest; or the 64 digits of an MRENCLAVE."""
    from glasscase.gramine.elf import PAL_MAX
    from glasscase.gramine.layout import layout
    from glasscase.gramine.manifest import MANIFEST_MAX, parse_manifest
    from glasscase.measure.claim import read_measurement
    from glasscase.measure.mrenclave import measure_layout

    if _HEX.fullmatch(path) and not os.path.exists(path):
        return _Subject(path, mrenclave=bytes.fromhex(path))
    bundle = None
    lone = not os.path.isdir(path)
    if not lone:
        from glasscase.bundle.index import INDEX, open_bundle

        path, libpal = bundle_files(path)
        if os.path.exists(os.path.join(os.path.dirname(path), INDEX)):
            bundle = open_bundle(os.path.dirname(path))
    content = read_argument(path, max_bytes=MANIFEST_MAX, what="manifest")
    if content.lstrip()[:1] == b"{":
        measurement = read_measurement(content)
        return _Subject(path, mrenclave=measurement.mrenclave, measurement=measurement)
    document = parse_manifest(content)
    if not libpal:
        return _Subject(path, document=document, text=content, lone=lone)
    plan = layout(content, read_argument(libpal, max_bytes=PAL_MAX, what="libpal.so"))
    measurement = measure_layout(plan)
    return _Subject(path, measurement.mrenclave, document, plan, measurement, bundle, content, lone)


def _causes(one: _Subject, two: _Subject) -> "tuple[Cause, ...]":
    from glasscase.measure.compare import Cause, compare_files, compare_maps, compare_options, trusted_files

    if one.bundle and two.bundle:
        from glasscase.bundle.compare import compare_bundles
        from glasscase.cli.pinned import origins_of

        found = compare_bundles(one.bundle, two.bundle, origins=(origins_of(one.bundle), origins_of(two.bundle)))
        if one.mrenclave != two.mrenclave and not any(cause.measured for cause in found):
            found = (*_unexplained(one, two), *found)
        return found
    causes: list[Cause] = []
    if one.document is not None and two.document is not None:
        causes += compare_options(one.document, two.document)
        causes += compare_files(trusted_files(one.document), trusted_files(two.document))
        if one.measurement and two.measurement:
            causes += [cause for cause in compare_maps(one.measurement, two.measurement) if cause.layer == "runtime"]
        if not causes and one.text != two.text:
            digests = [hashlib.sha256(item.text or b"").hexdigest() for item in (one, two)]
            causes.append(Cause("content", "comments, order or spelling of the text", digests[0], digests[1]))
        if causes or not (one.mrenclave and two.mrenclave):
            return tuple(causes)
    if one.measurement and two.measurement:
        return compare_maps(one.measurement, two.measurement)
    if not one.mrenclave or not two.mrenclave:
        raise UsageError(
            "measure.subjects.incomparable",
            "a manifest and a measurement can be compared only if the manifest is measured",
            hint="give --libpal PAL too, or a bundle",
        )
    return () if one.mrenclave == two.mrenclave else _unexplained(one, two)


def _unexplained(one: _Subject, two: _Subject) -> "tuple[Cause, ...]":
    """Return the cause that is left if two MRENCLAVEs differ and nothing that is known says why."""
    from glasscase.measure.compare import Cause

    before, after = (item.mrenclave.hex() if item.mrenclave else "" for item in (one, two))
    return (Cause("content", "MRENCLAVE, by bytes that nothing here names", before, after, security=True),)


def _headline(one: _Subject, two: _Subject, causes: "tuple[Cause, ...]") -> str:
    if not causes:
        return "the same: nothing that was given differs"
    if one.mrenclave is None or two.mrenclave is None:
        return "the manifests differ. Causes, first ones first:"
    if one.mrenclave == two.mrenclave:
        return f"MRENCLAVE is the same, {one.mrenclave.hex()}"
    return f"MRENCLAVE changed {one.mrenclave.hex()[:16]}... -> {two.mrenclave.hex()[:16]}... Causes, first ones first:"


def _lines(out: Output, one: _Subject, two: _Subject, causes: "tuple[Cause, ...]", place: "Place | None") -> list[str]:
    lines = [_headline(one, two, causes)]
    for measured in (True, False):
        chosen = [cause for cause in causes if cause.measured is measured]
        if chosen and not measured:
            lines.append("differs, but is not measured and so no cause:")
        for cause in chosen:
            text = escape(f"  {cause.layer:<11} {cause.what}  {_short(cause.before)} -> {_short(cause.after)}")
            note = escape(f"   ({cause.note})") if cause.note else ""
            lines.append(text + note + (out.paint("   [security]", "red") if cause.security else ""))
    if place:
        lines.append(
            f"first page that differs: {place.address:#x}, {place.area} +{place.offset:#x}; all before it is equal"
        )
    return lines


def _short(text: str) -> str:
    return f"{text[:12]}..." if _HEX.fullmatch(text) else text


def _page(one: _Subject, two: _Subject, causes: "tuple[Cause, ...]", place: "Place | None") -> bytes:
    """Return a page without scripts; every text is escaped."""

    def cell(text: str, tag: str = "td") -> str:
        return f"<{tag}>{html.escape(escape(text))}</{tag}>"

    rows = [
        "<tr>"
        + "".join(cell(text) for text in (cause.layer, cause.what, cause.before, cause.after))
        + cell("measured" if cause.measured else "not measured")
        + cell("security" if cause.security else "")
        + cell(cause.note)
        + "</tr>"
        for cause in causes
    ]
    head = "".join(cell(text, "th") for text in ("layer", "what", "before", "after", "measured", "security", "note"))
    where = f"first page that differs: {place.address:#x}, {place.area} +{place.offset:#x}" if place else ""
    picture = b""
    if one.measurement and two.measurement:
        from glasscase.measure.drawing import draw_svg

        picture = draw_svg([one.measurement, two.measurement])
    return (
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            "<title>why two enclaves differ</title><style>body{font-family:sans-serif;margin:2em}"
            "td,th{border:1px solid #999;padding:.3em;text-align:left;overflow-wrap:anywhere;font-size:90%}"
            "table{border-collapse:collapse}</style></head><body>\n"
            f"<h1>{html.escape(_headline(one, two, causes))}</h1>\n"
            f"<p>{html.escape(escape(one.label))} and {html.escape(escape(two.label))}. {html.escape(where)}</p>\n"
            f"<table><tr>{head}</tr>\n" + "\n".join(rows) + "</table>\n"
        ).encode()
        + picture
        + b"</body></html>\n"
    )
