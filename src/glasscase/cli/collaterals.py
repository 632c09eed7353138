"""The verbs `collateral` and `tcb`, the ones of the auditor that open sockets: they fetch what Intel publishes."""

import time
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli.output import Output, refuse_given, verb
from glasscase.cli.reading import check_output, read_argument, result_beside, write_argument
from glasscase.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from glasscase.collateral.model import Collateral
    from glasscase.verify.anchor import TrustAnchor
    from glasscase.verify.verdict import Verdict

_FILE_MAX = 48 * 1024 * 1024  # bytes, evidence in JSON


@verb(
    "collateral",
    help="Fetch Intel's collateral for the platform of a quote (with --for and -o), or show what FILE holds.",
)
@click.argument("action", type=click.Choice(["fetch", "show"]))
@click.argument("file", required=False)
@click.option("--for", "for_file", metavar="FILE", help="fetch: the quote or evidence whose platform is meant.")
@click.option("-o", "--output", metavar="FILE", help="fetch: where to write the collateral.")
@click.option(
    "--source",
    metavar="intel|URL",
    default="intel",
    show_default=True,
    help="fetch: Intel's service or the URL of a PCCS.",
)
@click.option(
    "--update",
    type=click.Choice(["standard", "early"]),
    default="standard",
    show_default=True,
    help="fetch: the data set that counts today, or the next one.",
)
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
        for option, given in (("--for", for_file), ("-o", output), ("--insecure-anchor", insecure_anchor)):
            if given is not None:
                raise UsageError("cli.usage.wrong", f"{option} belongs to collateral fetch", hint="show judges nothing")
        refuse_given("source", "update", because="belongs to collateral fetch")
        return _show(out, file)
    if file is not None or for_file is None or output is None:
        raise UsageError(
            "cli.usage.wrong",
            "collateral fetch needs --for and -o",
            hint="glasscase collateral fetch --for FILE -o FILE",
        )
    return _fetch(out, for_file, output, source=source, update=update, insecure_anchor=insecure_anchor)


def _fetch(out: Output, for_file: str, output: str, *, source: str, update: str, insecure_anchor: str | None) -> int:
    from glasscase.cli.verifying import anchor_argument

    check_output(out, output)
    quote = _quote(for_file)
    anchor = anchor_argument(insecure_anchor)
    found = _fetched(quote, anchor, source=source, update=update)
    write_argument(out, output, found.to_bytes())
    value = _described(found)
    lines = [
        *_lines(value),
        f"wrote     {output}",
        *(["SIMULATED it is not signed under Intel's root"] if anchor.simulated else []),
    ]
    result_beside(out, output, {**value, "path": output, "simulated": anchor.simulated}, "\n".join(lines))
    return 0


def _quote(path: str) -> bytes:
    """Return the quote in a file, which is one or is evidence that holds one."""
    from glasscase.cli.verifying import is_evidence

    content = read_argument(path, max_bytes=_FILE_MAX, what="evidence or quote")
    if not is_evidence(content):
        return content
    from glasscase.evidence.format import parse_evidence

    return parse_evidence(content).quote


def _fetched(quote: bytes, anchor: "TrustAnchor", *, source: str, update: str) -> "Collateral":
    from glasscase.cli.places import cache_dir
    from glasscase.collateral.fetch import fetch_collateral
    from glasscase.collateral.store import Store

    store = Store(cache_dir() / "collateral" / anchor.name.rpartition(":")[2][:16])
    return fetch_collateral(quote, anchor=anchor.core, at=int(time.time()), source=source, update=update, store=store)


@verb(
    "tcb",
    help="Say where the platform of a quote stands against Intel's data set: status, advisories, and what is lacking. "
    "FILE is evidence or a quote, `-` for stdin. Exits 0 whatever the status is; the enclave itself is not judged.",
)
@click.argument("file")
@click.option("--early", is_flag=True, help="Take the next data set, which Intel publishes months before it counts.")
@click.option("--collateral", metavar="FILE", help="Take the data set in FILE; opens no socket.")
@click.option(
    "--source",
    metavar="intel|URL",
    default="intel",
    show_default=True,
    help="Where the data set comes from: Intel's service, or a PCCS.",
)
@click.option("--at", metavar="TIME", help="As of this time: RFC 3339 or unix seconds [default: now].")
@click.option("--insecure-anchor", metavar="PEM", help="Trust this root instead of Intel's. The answer says SIMULATED.")
def tcb(
    out: Output, file: str, *, early: bool, collateral: str | None, source: str, at: str | None, insecure_anchor: str | None
) -> int:  # fmt: skip
    """Judge the platform alone, and print it."""
    from glasscase.cli.clock import refuse_behind
    from glasscase.cli.verifying import anchor_argument, collateral_argument, time_argument
    from glasscase.verify.quote import verify_quote

    if collateral is not None:
        refuse_given("source", because="is not asked with --collateral")
    if early and collateral is not None:
        raise UsageError("cli.usage.wrong", "--early and --collateral exclude each other", hint="leave one away")
    moment, anchor, quote = time_argument(at), anchor_argument(insecure_anchor), _quote(file)
    update = "early" if early else "standard"
    found = (
        _fetched(quote, anchor, source=source, update=update)
        if collateral is None
        else collateral_argument(collateral, quote)
    )
    verdict = verify_quote(quote, collateral=found, anchor=anchor, policy=None, at=moment)
    if at is None:
        refuse_behind(verdict)
    _require_genuine(verdict)
    value = _standing(verdict, update if collateral is None else None)
    out.result(value, "\n".join(_standing_lines(verdict, value)))
    return 0


def _require_genuine(verdict: "Verdict") -> None:
    """Raise VerificationError unless quote and collateral are genuine: then only does a status say anything."""
    from glasscase.verify import catalog

    if verdict.core.genuine:
        return
    failed = [check for check in verdict.failed if check.id in verdict.core.failed]
    proofs = [check for check in failed if check.kind == "proof"]
    name, observed = next(((check.id, check.observed) for check in [*proofs, *failed]), ("verdict.status.unmet", ""))
    text = catalog.message_of(name) + (f" ({observed[:200]})" if observed else "")
    raise VerificationError(name, text, hint=catalog.remedy_of(name), verdict=verdict, undetermined=not proofs)


def _standing(verdict: "Verdict", update: str | None) -> dict[str, Any]:
    core, pck = verdict.core, verdict.pck
    window = core.window("tcb_info")
    return {
        "tcb_status": core.tcb_status,
        "platform_status": core.platform_status,
        "qe_status": core.qe_status,
        "advisories": list(core.advisories),
        "shortfall": [{"component": part.component, "own": part.own, "needed": part.needed} for part in core.shortfall],
        "fmspc": pck.fmspc.hex() if pck else None,
        "pck_ca": pck.ca if pck else None,
        "update": update,
        "evaluation": core.tcb_info_evaluation,
        "issued": window.start if window else None,
        "next_update": window.end if window else None,
        "anchor": verdict.anchor,
        "simulated": verdict.simulated,
    }


def _standing_lines(verdict: "Verdict", value: dict[str, Any]) -> list[str]:
    from glasscase.cli.verdicts import SIMULATED
    from glasscase.verify.rules import shortfall_sentences, when

    channel = {"early": "the next", "standard": "the one that counts today", None: "as given"}[value["update"]]
    lines = [
        f"platform  FMSPC {value['fmspc']}, PCK {value['pck_ca']} CA",
        f"data set  TCB evaluation {value['evaluation']} ({channel}), issued {when(value['issued'])}, "
        f"next update {when(value['next_update'])}",
        f"status    {value['tcb_status']}  (platform {value['platform_status']}, quoting enclave {value['qe_status']})",
        *(f"lacking   {sentence}" for sentence in shortfall_sentences(verdict.core)),
    ]
    if value["advisories"]:
        lines.append(f"known     {', '.join(value['advisories'])}")
    return [*lines, SIMULATED] if value["simulated"] else lines


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
