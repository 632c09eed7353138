"""The auditor's report as one HTML file: readable without script, network or style from outside, and on paper.

Invariants: the same report gives the same bytes; every text is escaped; the data of the report is embedded as inert JSON.
Source: docs/policy.md, "Reports".
"""

import json
from collections.abc import Iterable
from typing import Any

from glasscase.audit.report_pictures import WORDS, chain_picture, text, timeline_picture, when

_STYLE = (
    "body{font-family:sans-serif;max-width:62em;margin:2em auto;padding:0 1em;line-height:1.4}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{border:1px solid #8888;padding:.25em .5em;text-align:left;"
    "vertical-align:top;overflow-wrap:anywhere}code,.hex{font-family:monospace;overflow-wrap:anywhere}"
    ".banner{padding:1em;font-size:160%;font-weight:bold;color:#fff}.verified{background:#2f6f4f}.failed{background:#c0392b}"
    ".undetermined{background:#8a6508}.simulated{padding:.6em 1em;border:3px solid #c0392b;font-weight:bold;margin:.5em 0}"
    ".pass{color:#2f6f4f}.fail{color:#c0392b;font-weight:bold}.not_reached{color:#8a6508}mark{background:#f6b3ab}"
    "svg{max-width:100%;height:auto}.f0{background:#dde8f7}.f1{background:#f7eedd}@media(prefers-color-scheme:dark){"
    "body{background:#161616;color:#ddd}.pass{color:#7fc6a0}.fail{color:#f08b80}.not_reached{color:#d9a441}mark,.f0,.f1"
    "{color:#111}}@media print{body{max-width:none;margin:0}details{display:block}.banner{print-color-adjust:exact}}"
)
_SENTENCES = {
    "verified": "VERIFIED",
    "failed": "FAILED: do not trust this enclave",
    "undetermined": "UNDETERMINED: no verdict is possible with what was given",
}
_BYTES_A_LINE = 32
# name and bytes of the parts of an SGX quote, in order; what follows is the certification data
_FIELDS = (
    ("header", 48), ("CPUSVN, MISCSELECT, reserved", 48), ("ATTRIBUTES", 16), ("MRENCLAVE", 32), ("reserved", 32),
    ("MRSIGNER", 32), ("reserved, CONFIGID", 96), ("ISVPRODID, ISVSVN, CONFIGSVN, reserved, ISVFAMILYID", 64),
    ("REPORTDATA", 64), ("length", 4), ("signature", 64), ("attestation key", 64), ("QE report", 384),
    ("signature of the QE report", 64),
)  # fmt: skip


def report_page(document: dict[str, Any], *, memory_map: bytes = b"") -> bytes:
    """Return the page. document: of report_document; memory_map: an SVG of measure.drawing, or nothing."""
    verdict = document["verdict"]
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Enclave report: {text(verdict['status'])}</title><style>{_STYLE}</style></head><body>\n",
        _banner(document),
        _section("1. Measurement", _measurement(document["measurement"])),
        _section("2. Chain", chain_picture(document["chain"])),
        _section("3. Time", _time(document)),
        _section("4. Platform", _platform(document["platform"])),
        _section("5. Memory", memory_map.decode("ascii") or "<p>No bundle was given, so there is no memory map.</p>"),
        _section("6. Bundle", _bundle(document["bundle"])),
        _section("7. All checks", _checks(verdict["checks"])),
        _section(
            "8. What this does not prove", _list(f"{sentence} [{name}]" for name, sentence in document["not_proven"])
        ),
        _section("9. How to repeat it", _repeat(document)),
        _section("10. The quote", _hex_dump(document["raw_quote"])),
        f'<script type="application/json" id="report">{_inert(document)}</script>\n</body></html>\n',
    ]
    return "".join(parts).encode("utf-8")


def _banner(document: dict[str, Any]) -> str:
    verdict = document["verdict"]
    status = verdict["status"]
    out = ["<h1>Enclave report</h1>"]
    if verdict["simulated"]:
        out.append(
            '<div class="simulated">SIMULATED: the trust anchor is not Intel\'s. This says nothing about real hardware.</div>'
        )
    out.append(f'<div class="banner {text(status)}">{text(_SENTENCES[status])}</div>')
    policy = document["inputs"]["files"].get("policy", "none")
    sentence = (
        f"As of {verdict['at']}, by glasscase {document['program'].get('version', '')} (engine {verdict['engine']}), "
    )
    sentence += f"under the policy with SHA-256 {policy}, resting on {verdict['anchor']}."
    if verdict["valid_until"]:
        sentence += f" It holds until {verdict['valid_until']} ({document['limit']})."
    out.append(f"<p>{text(sentence)}</p>")
    if verdict["failed"]:
        out.append(f"<p>Failed checks, in their order:</p>{_list(verdict['failed'])}")
    if verdict["insecure"]:
        out.append(f'<p class="fail">Relaxed: {text(", ".join(verdict["insecure"]))}</p>')
    return "".join(out)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{text(title)}</h2>\n{content}\n</section>\n"


def _measurement(measured: dict[str, Any]) -> str:
    quoted, recomputed = measured["quoted"], measured["recomputed"]
    if not recomputed:
        return (
            f'<p>Quoted <span class="hex">{text(quoted or "nothing")}</span>. No bundle was given: not recomputed.</p>'
        )
    rows = [("recomputed", recomputed, quoted), ("quoted", quoted or "", recomputed)]
    body = "".join(
        f'<tr><th>{name}</th><td class="hex">{_marked(own, other or "")}</td></tr>' for name, own, other in rows
    )
    said = "equal" if quoted == recomputed else "DIFFERENT"
    areas = measured["measured_areas"]
    return f"<table>{body}</table><p>{said}; recomputed from {areas} measured areas of the bundle's bytes.</p>"


def _marked(own: str, other: str) -> str:
    """Return hex in pairs with the digits marked that differ."""
    shown = []
    for index, digit in enumerate(own):
        same = index < len(other) and digit == other[index]
        shown.append(text(digit) if same else f"<mark>{text(digit)}</mark>")
        if index % 8 == 7:
            shown.append(" ")
    return "".join(shown)


def _time(document: dict[str, Any]) -> str:
    marks = {"judged as of": _unix(document["verdict"]["at"])}
    if document["inputs"]["created_at"]:
        marks["evidence says"] = document["inputs"]["created_at"]
    if document["verdict"]["valid_until"]:
        marks["holds until"] = _unix(document["verdict"]["valid_until"])
    rows = [(row["name"], when(row["start"]), when(row["end"])) for row in document["windows"]]
    return timeline_picture(document["windows"], marks) + _table(("item", "from", "until"), rows)


def _unix(rfc3339: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(rfc3339).timestamp())


def _platform(platform: dict[str, Any]) -> str:
    head = _table(
        ("status", "quoting enclave", "FMSPC", "CA", "TCB set", "root CRL", "PCK CRL"),
        [[platform[key] if platform[key] is not None else "-" for key in
          ("status", "qe_status", "fmspc", "ca", "tcb_evaluation", "root_crl", "pck_crl")]],
    )  # fmt: skip
    if not platform["own"]:
        return head
    names = [*(f"component {number}" for number in range(16)), "PCESVN"]
    needed = platform["needed"] or ["-"] * 17
    rows = [
        (name, own, need, f"{need - own} short" if index in platform["short"] else "")
        for index, (name, own, need) in enumerate(zip(names, platform["own"], needed, strict=True))
    ]
    advisories = platform["advisories"]
    told = f"<p>Advisories of the matched levels:</p>{_list(advisories)}" if advisories else "<p>No advisories.</p>"
    return head + told + _table(("TCB", "this machine", "UpToDate needs", ""), rows)


def _bundle(bundle: dict[str, Any] | None) -> str:
    if bundle is None:
        return "<p>No bundle was given.</p>"
    facts = [
        ("id", bundle["id"]), ("name", bundle["name"]), ("files", f"{bundle['files']:,}"), ("bytes", f"{bundle['bytes']:,}"),
        ("application", "encrypted" if bundle["encrypted"] else "in clear"), ("Gramine runtime", bundle["runtime"]),
        ("weakenings", ", ".join(bundle["insecure"]) or "none"),
        ("rehashed", "every file" if bundle["blobs_hashed"] else "every file but the encrypted ones"),
    ]  # fmt: skip
    problems = [f"{said} [{name}]" for name, said in bundle["problems"]]
    out = _table(("", ""), facts)
    out += (
        f'<p class="fail">Not sound:</p>{_list(problems)}'
        if problems
        else "<p>Everything it claims was recomputed.</p>"
    )
    for title, rows in (("wheels", bundle["wheels"]), ("Debian packages", bundle["debian"])):
        table = _table(("name", "version", "SHA-256"), rows)
        out += f"<details><summary>{len(rows)} {title}</summary>{table}</details>"
    return out


def _checks(checks: list[dict[str, str]]) -> str:
    rows = "".join(
        f'<tr><td class="{text(check["outcome"])}">{WORDS[check["outcome"]]}</td><td><code>{text(check["id"])}</code></td>'
        f"<td>{text(check['observed'])}</td><td>{text(check['expected'])}</td><td>{text(check['anchor'])}</td>"
        f"<td>{text(check['source'])}</td></tr>\n"
        for check in checks
    )
    head = "".join(f"<th>{word}</th>" for word in ("outcome", "check", "seen", "expected", "rests on", "rule"))
    return f"<table><tr>{head}</tr>\n{rows}</table>"


def _repeat(document: dict[str, Any]) -> str:
    files = [("judged file", document["inputs"]["sha256"]), *document["inputs"]["files"].items()]
    if document["inputs"]["evidence_id"]:
        files.append(("evidence id", document["inputs"]["evidence_id"]))
    program = list(document["program"].items())
    command = " ".join(document["command"])
    return (
        f"<p><code>{text(command)}</code></p>{_table(('input', 'SHA-256'), files)}{_table(('program', ''), program)}"
        "<p>Times and files are arguments: the same command gives the same verdict and this same page.</p>"
    )


def _hex_dump(raw: str) -> str:
    """Return the quote field by field, fields in two alternating colors."""
    if not raw:
        return "<p>There is no quote.</p>"
    data = bytes.fromhex(raw)
    rows, at = [], 0
    for index, (name, size) in enumerate([*_FIELDS, ("authentication and certification data", len(data))]):
        part = data[at : at + size]
        if not part:
            break
        lines = [part[start : start + _BYTES_A_LINE].hex(" ") for start in range(0, len(part), _BYTES_A_LINE)]
        rows.append(
            f'<tr class="f{index % 2}"><td>{at}</td><td>{text(name)}</td><td class="hex">{"<br>".join(lines)}</td></tr>'
        )
        at += size
    return f"<details><summary>{len(data):,} bytes</summary><table>{''.join(rows)}</table></details>"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    titles = "".join(f"<th>{text(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{titles}</tr>\n{body}</table>"


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def _inert(document: dict[str, Any]) -> str:
    """Return JSON that cannot end the element it stands in."""
    spelt = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return spelt.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
