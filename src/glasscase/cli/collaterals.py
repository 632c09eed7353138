"""The verb `collateral`: fetch (the one verb of the auditor that opens sockets) and show."""

import time
from typing import Any

import click

from glasscase.cli.output import Output, verb
from glasscase.cli.reading import read_argument, result_beside, write_argument
from glasscase.errors import UsageError


@verb("collateral", help="Fetch Intel's collateral for the platform of a quote, or show what a file holds.")
@click.argument("action", type=click.Choice(["fetch", "show"]))
@click.argument("file", required=False)
@click.option("--for", "for_file", metavar="FILE", help="fetch: the quote or evidence whose platform is meant.")
@click.option("-o", "--output", metavar="FILE", help="fetch: where to write the collateral.")
@click.option("--source", metavar="intel|URL", default="intel", help="fetch: Intel's service or the URL of a PCCS.")
@click.option("--update", type=click.Choice(["standard", "early"]), default="standard", help="fetch: update channel.")
@click.option("--insecure-anchor", metavar="PEM", help="fetch: what is fetched must be signed under this root instead.")
def collateral(  # noqa: PLR0917 - one argument for each option
    out: Output,
    action: str,
    file: str | None,
    for_file: str | None,
    output: str | None,
    source: str,
    update: str,
    insecure_anchor: str | None,
) -> int:
    """Run one of the two actions."""
    if action == "show":
        if file is None:
            raise UsageError("cli.usage.wrong", "collateral show needs a FILE", hint="glasscase collateral show FILE")
        return _show(out, file)
    if file is not None or for_file is None or output is None:
        raise UsageError(
            "cli.usage.wrong",
            "collateral fetch needs --for and -o",
            hint="glasscase collateral fetch --for FILE -o FILE",
        )
    return _fetch(out, for_file, output, source=source, update=update, insecure_anchor=insecure_anchor)


def _fetch(out: Output, for_file: str, output: str, *, source: str, update: str, insecure_anchor: str | None) -> int:
    from glasscase.cli.places import cache_dir
    from glasscase.cli.verifying import anchor_argument, is_evidence
    from glasscase.collateral.fetch import fetch_collateral
    from glasscase.collateral.store import Store

    content = read_argument(for_file, max_bytes=48 * 1024 * 1024, what="evidence or quote")
    quote = content
    if is_evidence(content):
        from glasscase.evidence.format import parse_evidence

        quote = parse_evidence(content).quote
    anchor = anchor_argument(insecure_anchor)
    store = Store(cache_dir() / "collateral" / anchor.name.rpartition(":")[2][:16])
    found = fetch_collateral(quote, anchor=anchor.core, at=int(time.time()), source=source, update=update, store=store)
    write_argument(out, output, found.to_bytes())
    value = _described(found)
    result_beside(out, output, {**value, "path": output}, "\n".join([*_lines(value), f"wrote     {output}"]))
    return 0


def _show(out: Output, file: str) -> int:
    from glasscase.collateral.model import FILE_MAX, parse_collateral

    content = read_argument(file, max_bytes=FILE_MAX, what="collateral")
    found = _of_evidence(content) or parse_collateral(content)
    value = _described(found)
    out.result(value, "\n".join(_lines(value)))
    return 0


def _of_evidence(content: bytes) -> Any:
    """Return the collateral inside evidence, or None if this is not evidence."""
    from glasscase.errors import FormatError
    from glasscase.evidence.format import parse_evidence

    try:
        evidence = parse_evidence(content)
    except FormatError:
        return None
    if evidence.collateral is None:
        raise FormatError("collateral.file.malformed", "this evidence holds no collateral", what="collateral")
    return evidence.collateral


def _described(found: Any) -> dict[str, Any]:
    from glasscase.audit.messages import collateral_items

    return {"source": found.source, "fetched_at": found.fetched_at, "items": collateral_items(found)}


def _lines(value: dict[str, Any]) -> list[str]:
    from glasscase.cli.output import escape
    from glasscase.verify.rules import when

    lines = [f"source    {escape(value['source']) or 'not said'}"]
    for item in value["items"]:
        number = item.get("number", item.get("evaluation"))
        extra = "" if number is None else f"  #{number}"
        lines.append(f"{item['name']:<28} {when(item['issued'])}  ..  {when(item['next_update'])}{extra}")
    return lines
