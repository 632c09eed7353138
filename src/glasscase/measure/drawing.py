"""The memory of an enclave as text and as SVG: measured, added but not measured, reserved.

Invariants: the same measurement gives the same bytes; the SVG holds no script, no link and no text from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from glasscase.gramine.elf import PAGE
from glasscase.gramine.layout import HEAP_MIN
from glasscase.measure.mrenclave import Measurement

CELLS = 64  # of a text row
_FEW, _MANY = 16 << 20, 1 << 30  # bytes: what Intel calls a few megabytes, and a large heap
_MEASURED, _ADDED, _RESERVED = "measured", "added", "reserved"
_COLORS = {_MEASURED: "#2f6f4f", _ADDED: "#d9a441", _RESERVED: "#e4e4e4"}
_MARKS = {_MEASURED: "#", _ADDED: ".", _RESERVED: "_"}
_WORDS = {
    _MEASURED: "measured",
    _ADDED: "added, not measured: content comes only from measured code",
    _RESERVED: "reserved: no page until the enclave asks for it",
}


@dataclass(frozen=True)
class Region:
    """Neighbouring areas of one name and kind. state: measured, added or reserved. count: how many areas."""

    name: str
    start: int
    size: int
    permissions: str
    state: str
    count: int


def regions(measurement: Measurement) -> tuple[Region, ...]:
    """Return all of [0, enclave size), highest address first; areas of one name that touch are one region."""
    found: list[Region] = []
    top = measurement.enclave_size
    for area in sorted(measurement.areas, key=lambda area: -area.start):
        end = area.start + area.size
        if end < top:
            found.append(Region("-", end, top - end, "---", _RESERVED, 1))
        state = _MEASURED if area.measured else _ADDED
        last = found[-1] if found else None
        if last and last.name == area.name and last.permissions == area.permissions and last.start == end:
            found[-1] = Region(area.name, area.start, last.size + area.size, area.permissions, state, last.count + 1)
        else:
            found.append(Region(area.name, area.start, area.size, area.permissions, state, 1))
        top = area.start
    if top > 0:
        found.append(Region("-", 0, top, "---", _RESERVED, 1))
    return tuple(found)


def forecast(measurement: Measurement) -> dict[str, int]:
    """Return what the enclave takes, in bytes: EPC that is filled at start, heap, and what the machine hashes at start.

    Without EDMM the whole heap is filled at start; with it the heap takes EPC as it is used.
    """
    pal = min((area.start for area in measurement.areas if area.name == "pal"), default=0)
    added_only = measurement.pages_added - measurement.pages_measured
    return {
        "epc_at_start": (measurement.pages_added + 1) * PAGE,  # and the SECS
        "heap": max(pal - HEAP_MIN, 0),
        "hashed_at_start": measurement.pages_measured * (64 + 16 * 320) + added_only * 64,
    }


def start_estimate(measurement: Measurement) -> str:
    """Return one line on how long the machine takes to fill the enclave at start; an estimate, nothing of it is measured here.

    Source: Intel support article 000089477: a few megabytes take less than a second, 1 GB takes several seconds.
    """
    filled = forecast(measurement)["epc_at_start"]
    if filled <= _FEW:
        text = "less than a second"
    elif filled <= _MANY:
        text = "up to several seconds"
    else:
        text = f"several seconds for each of {-(-filled // _MANY)} GiB; less where edmm = true"
    return f"estimate, not measured: {text} to fill it at start (Intel support article 000089477)"


def draw_text(measurement: Measurement) -> list[str]:
    """Return one line for each region with a bar, then a legend. Small regions have one mark, so that all are seen."""
    cell = max(measurement.enclave_size // CELLS, 1)
    lines = [f"MRENCLAVE {measurement.mrenclave.hex()}", f"each mark up to {human(cell)}"]
    for region in regions(measurement):
        bar = _MARKS[region.state] * max(1, round(region.size / cell))
        name = region.name if region.count == 1 else f"{region.name} x{region.count}"
        lines.append(f"{region.start:#014x} {name:<15} {region.permissions:<4}{human(region.size):>7} {bar}")
    lines += [f"{_MARKS[state]} {_WORDS[state]}" for state in (_MEASURED, _ADDED, _RESERVED)]
    need = {name: human(size) for name, size in forecast(measurement).items()}
    lines.append(f"needs {need['epc_at_start']} of EPC at start, hashes {need['hashed_at_start']}; heap {need['heap']}")
    lines.append(start_estimate(measurement))
    return lines


def draw_difference(before: Measurement, after: Measurement) -> list[str]:
    """Return two columns, one region a line, with a mark where they differ."""
    columns = [[_row(region) for region in regions(item)] for item in (before, after)]
    lines = [f"  {before.mrenclave.hex()[:32]}..    {after.mrenclave.hex()[:32]}.."]
    for index in range(max(map(len, columns))):
        left, right = (column[index] if index < len(column) else "" for column in columns)
        lines.append(f"{' ' if left == right else '!'} {left:<36}{right}")
    return lines


def _row(region: Region) -> str:
    name = region.name if region.count == 1 else f"{region.name} x{region.count}"
    return f"{region.start:#012x} {name:<14}{region.permissions} {human(region.size):>5}"


def draw_svg(measurements: Sequence[Measurement]) -> bytes:
    """Return an SVG with one column for each measurement; regions that differ from the first column's have a red frame.

    Heights follow the logarithm of the size, so that one page and a gigabyte are both seen.
    """
    first = {_key(region) for region in regions(measurements[0])}
    width, column_width, top = 40 + 420 * len(measurements), 400, 70
    height = top + max(sum(_height(region) for region in regions(item)) for item in measurements) + 70
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, measurement in enumerate(measurements):
        x, y = 20 + 420 * index, top
        out.append(f'<text x="{x}" y="30" font-size="13">MRENCLAVE {measurement.mrenclave.hex()[:32]}</text>')
        out.append(f'<text x="{x}" y="48" font-size="13">{"&#160;" * 10}{measurement.mrenclave.hex()[32:]}</text>')
        for region in regions(measurement):
            out += _svg_region(region, x, y, column_width, marked=index > 0 and _key(region) not in first)
            y += _height(region)
    out += _svg_legend(height)
    out.append("</svg>")
    return ("\n".join(out) + "\n").encode("ascii")


def _key(region: Region) -> tuple[int, int, str]:
    return (region.start, region.size, region.permissions)


def _height(region: Region) -> int:
    return 16 + 3 * max(0, region.size.bit_length() - 13)


def _svg_region(region: Region, x: int, y: int, width: int, *, marked: bool) -> list[str]:
    frame = ' stroke="#c0392b" stroke-width="2"' if marked else ' stroke="#ffffff"'
    light = region.state == _MEASURED
    name = region.name if region.count == 1 else f"{region.name} x{region.count}"
    text = f"{region.start:#014x} {name} {region.permissions} {human(region.size)} {region.state}"
    title = f"{region.start:#x}..{region.start + region.size:#x} {name}: {_WORDS[region.state]}"
    height = _height(region)
    return [
        f'<g><title>{title}</title><rect x="{x}" y="{y}" width="{width}" height="{height}" '
        f'fill="{_COLORS[region.state]}"{frame}/>',
        f'<text x="{x + 6}" y="{y + height // 2 + 4}" fill="{"#ffffff" if light else "#222222"}">{text}</text></g>',
    ]


def _svg_legend(height: int) -> list[str]:
    lines = []
    for index, state in enumerate((_MEASURED, _ADDED, _RESERVED)):
        y = height - 52 + 16 * index
        lines.append(f'<rect x="20" y="{y}" width="12" height="12" fill="{_COLORS[state]}"/>')
        lines.append(f'<text x="38" y="{y + 10}">{_WORDS[state]}</text>')
    return lines


def human(size: int) -> str:
    """Return a size like 356K, 2.1M, 1.5G."""
    for unit, limit in (("K", 1 << 20), ("M", 1 << 30), ("G", 1 << 62)):
        if size < limit:
            value = size / (limit >> 10)
            return f"{value:.0f}{unit}" if value >= 100 or value == int(value) else f"{value:.1f}{unit}"
    return f"{size}"
