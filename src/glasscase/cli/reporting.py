"""The verb `report`: the verdict with everything that it rests on, as one page for an auditor's file."""

import hashlib
import shlex
from typing import Any

import click

from glasscase.cli import judging
from glasscase.cli.output import Output, verb
from glasscase.cli.reading import check_output, read_argument, result_beside, write_argument

_FILE_MAX = 48 << 20
_OPTIONS = {"policy": "policy", "collateral": "collateral", "anchor": "insecure_anchor"}  # what was read -> the option


@verb(
    "report",
    help="Verify, then write one self-contained page that says what was judged, how, and what it does not prove.",
)
@click.argument("file")
@click.option("-o", "--output", required=True, metavar="REPORT.html", help="Where the page goes; a failed verdict too.")
@click.option("--policy", metavar="FILE", help="The policy (TOML); without it nothing is verified (exit 3, or 2).")
@judging.COLLATERAL
@click.option("--bundle", metavar="BUNDLE", help="Recompute this bundle's MRENCLAVE and show what is inside.")
@judging.AT
@judging.ENGINE
@click.option("--insecure-anchor", metavar="PEM", help="Trust this root instead of Intel's. The report says SIMULATED.")
@judging.NONCE
@judging.STATEMENT
def report(out: Output, file: str, *, output: str, **options: Any) -> int:
    """Write the page; print the verdict and its exit code as verify does."""
    from glasscase.audit.report_html import report_page
    from glasscase.audit.report_json import Inputs, report_document
    from glasscase.cli.failing import say_failure
    from glasscase.cli.verdicts import exit_code, verdict_text
    from glasscase.cli.verifying import Arguments, is_evidence, verdict_json
    from glasscase.measure.drawing import draw_svg

    check_output(out, output)
    content = read_argument(file, max_bytes=_FILE_MAX, what="evidence or quote")
    judge = Arguments(**options, warn=out.warn)
    verdict = judge.judge(content)
    evidence = None
    if is_evidence(content):
        from glasscase.evidence.format import parse_evidence

        evidence = parse_evidence(content)
    options["at"] = verdict.to_json()["at"]
    document = report_document(
        verdict,
        Inputs(
            subject=content,
            quote=evidence.quote if evidence else content,
            evidence_id=evidence.evidence_id if evidence else None,
            created_at=evidence.created_at if evidence else None,
            digests=_digests(judge.taken),
            command=_command(file, options),
            program=_program(),
        ),
    )
    measurement = verdict.basis.measurement
    picture = draw_svg([measurement]) if measurement is not None else b""
    write_argument(out, output, report_page(document, memory_map=picture))
    out.say(f"wrote     {output}")
    result_beside(out, output, verdict_json(verdict), verdict_text(out, verdict))
    if verdict.status.value != "verified":
        say_failure(verdict, file)
    return exit_code(verdict)


def _digests(taken: list[tuple[str, bytes]]) -> dict[str, str]:
    """Return SHA-256 of the files that were judged by, by the name of their option."""
    digests = {what: hashlib.sha256(content).hexdigest() for what, content in taken}
    statements = [content for what, content in taken if what == "statement"]
    return {
        **{option: digests[what] for what, option in _OPTIONS.items() if what in digests},
        **{f"statement {n}": hashlib.sha256(content).hexdigest() for n, content in enumerate(statements, 1)},
    }


def _command(file: str, options: dict[str, Any]) -> list[str]:
    """Return the words of the command that gives the same verdict at any later time."""
    words = ["glasscase", "verify", shlex.quote(file)]
    for name in ("policy", "bundle", "collateral", "at", "engine", "insecure_anchor", "nonce"):
        if options[name]:
            words += [f"--{name.replace('_', '-')}", shlex.quote(str(options[name]))]
    for path in options["statements"]:
        words += ["--statement", shlex.quote(path)]
    return words


def _program() -> dict[str, str]:
    """Return what judged: version, libcrypto, and SHA-256 over the list of installed files and their digests."""
    import importlib.metadata

    from glasscase import __version__
    from glasscase.core import handles

    value = {"version": __version__, "libcrypto": handles.libcrypto_version()}
    record = importlib.metadata.distribution("glasscase").read_text("RECORD")
    if record:
        listed = sorted(line for line in record.splitlines() if line.startswith("glasscase/") and ",sha256=" in line)
        value["installed files, SHA-256 over their digests"] = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    return value
