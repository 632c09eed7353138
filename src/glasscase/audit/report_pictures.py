"""The pictures of the auditor's report as inline SVG: the chain of trust and the timeline.

Invariants: the same report gives the same bytes; every text is escaped; no script, no link, no style from outside.
"""

import html
from datetime import UTC, datetime
from typing import Any

from glasscase.codec.printable import escape

_COLORS = {"pass": "#2f6f4f", "fail": "#c0392b", "not_reached": "#b8860b", "not_applicable": "#888888"}
WORDS = {"pass": "PASS", "fail": "FAIL", "not_reached": "NOT REACHED", "not_applicable": "N/A"}
_WIDTH = 860
_BAR_LEFT, _BAR_RIGHT = 210, 840


def text(value: object) -> str:
    """Return any value as text of a page: odd characters spelt, markup escaped."""
    return html.escape(escape(str(value)))


def when(unix_s: int) -> str:
    """Return a time in RFC 3339, or the number where no calendar has it."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(unix_s)


def chain_picture(edges: list[dict[str, Any]]) -> str:
    """Return the chain from the trust anchor to the enclave's keys, an arrow for each group of checks."""
    step = 58
    height = step * len(edges) + 50
    out = [_open(height, "chain of trust, from the trust anchor to the keys of the enclave")]
    for index, edge in enumerate(edges):
        y = 10 + index * step
        color = _COLORS[edge["outcome"]]
        out.append(_box(y, edge["from"]))
        out.append(f'<line x1="130" y1="{y + 28}" x2="130" y2="{y + step}" stroke="{color}" stroke-width="4"/>')
        words = f"{WORDS[edge['outcome']]}  {edge['checks']} checks"
        if edge["failed"]:
            words += ": " + ", ".join(edge["failed"][:3]) + (", ..." if len(edge["failed"]) > 3 else "")
        out.append(f'<text x="150" y="{y + 47}" fill="{color}">{text(words)}</text>')
    out.append(_box(10 + len(edges) * step, edges[-1]["to"]))
    return "".join([*out, "</svg>"])


def _box(y: int, name: str) -> str:
    return (
        f'<rect x="10" y="{y}" width="240" height="28" rx="4" fill="none" stroke="#888888"/>'
        f'<text x="20" y="{y + 19}" fill="currentColor">{text(name)}</text>'
    )


def timeline_picture(windows: list[dict[str, Any]], marks: dict[str, int]) -> str:
    """Return one bar for each window of validity, and a line for each mark (name -> unix seconds)."""
    if not windows or not marks:
        return "<p>No dates could be read.</p>"
    # long-lived certificates would flatten everything: the scale is the month around the marks and the short windows
    near = [point for row in windows for point in (row["start"], row["end"]) if row["end"] - row["start"] < 60 * 86_400]
    low, high = min([*marks.values(), *near]), max([*marks.values(), *near])
    margin = max((high - low) // 20, 3600)
    low, high = low - margin, high + margin
    height = 26 * len(windows) + 20 * len(marks) + 30
    out = [_open(height, "windows of validity")]
    for index, row in enumerate(windows):
        y = 10 + 26 * index
        left, right = _place(row["start"], low, high), _place(row["end"], low, high)
        at = marks.get("judged as of", next(iter(marks.values())))
        color = _COLORS["pass"] if row["start"] <= at < row["end"] else _COLORS["fail"]
        title = f"{row['name']}: {when(row['start'])} to {when(row['end'])}"
        out.append(
            f'<g><title>{text(title)}</title><text x="10" y="{y + 13}" fill="currentColor">{text(row["name"])}</text>'
            f'<rect x="{left}" y="{y}" width="{max(right - left, 2)}" height="16" fill="{color}"/></g>'
        )
    bottom = 10 + 26 * len(windows)
    for index, (name, unix_s) in enumerate(marks.items()):
        x, y = _place(unix_s, low, high), bottom + 16 + 20 * index
        out.append(
            f'<line x1="{x}" y1="4" x2="{x}" y2="{y}" stroke="#1f5fbf" stroke-width="2" stroke-dasharray="4 3"/>'
        )
        anchor = "end" if x > _WIDTH // 2 else "start"
        shift = -6 if anchor == "end" else 6
        out.append(
            f'<text x="{x + shift}" y="{y}" text-anchor="{anchor}" fill="#1f5fbf">{text(name)} {text(when(unix_s))}</text>'
        )
    return "".join([*out, "</svg>"])


def _place(unix_s: int, low: int, high: int) -> int:
    clamped = min(max(unix_s, low), high)
    return _BAR_LEFT + (clamped - low) * (_BAR_RIGHT - _BAR_LEFT) // max(high - low, 1)


def _open(height: int, label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{text(label)}" font-family="monospace" font-size="12">'
    )
