"""The verbs `verify` and `policy`."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli import judging
from glasscase.cli.clock import clock_time, refuse_behind
from glasscase.cli.output import Output, refuse_given, verb
from glasscase.cli.reading import read_argument
from glasscase.errors import FormatError, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from glasscase.verify.anchor import TrustAnchor
    from glasscase.verify.policy import Policy
    from glasscase.verify.verdict import Verdict

_QUOTE_MAX = 64 * 1024
_INPUT_MAX = 48 * 1024 * 1024  # bytes, evidence in JSON
_STATEMENT_MAX = 1024 * 1024
_NO_EVIDENCE = ("codec.version.malformed", "evidence.file.malformed")
_SECONDS_DIGITS = 12
_HOUR = "(?:[01][0-9]|2[0-3])"  # Python 3.14 reads 24:00 too
_RFC3339 = (
    rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt ]{_HOUR}:[0-9]{{2}}:[0-9]{{2}}(\.[0-9]+)?([Zz]|[+-]{_HOUR}:[0-9]{{2}})"
)
_LAST_S = 253_402_300_799  # the last second of the year 9999


@verb(
    "verify",
    help="Judge evidence, or a raw quote with --collateral, under a policy. Opens no socket. Exits 0 verified, 2 failed, "
    "3 undecided.",
)
@click.argument("file")
@click.option(
    "--policy",
    metavar="FILE",
    help="The policy (TOML). Without it the facts are shown and nothing is verified (exit 3, or 2).",
)
@judging.COLLATERAL
@click.option("--bundle", metavar="BUNDLE", help="Recompute this bundle's MRENCLAVE and compare.")
@judging.AT
@judging.ENGINE
@click.option(
    "--intel-library", metavar="PATH", help="Intel's library for --engine intel and both [default: the installed one]."
)
@click.option(
    "--insecure-anchor", metavar="PEM", help="Trust this root instead of Intel's. The verdict says SIMULATED."
)
@judging.NONCE
@judging.STATEMENT
@click.option("--checks", is_flag=True, help="List every check, also those that passed.")
def verify(  # noqa: PLR0917 - one argument for each option
    out: Output,
    file: str,
    policy: str | None,
    collateral: str | None,
    bundle: str | None,
    at: str | None,
    engine: str,
    intel_library: str | None,
    insecure_anchor: str | None,
    nonce: str | None,
    statements: tuple[str, ...],
    checks: bool,  # noqa: FBT001
) -> int:
    """Print the verdict; the exit code says it too."""
    from glasscase.cli.failing import say_failure
    from glasscase.cli.verdicts import exit_code, verdict_text

    if engine == "native":
        refuse_given("intel_library", because="needs --engine intel or both")
    judge = Arguments(
        policy=policy, collateral=collateral, bundle=bundle, at=at, engine=engine, insecure_anchor=insecure_anchor,
        nonce=nonce, statements=statements, intel_library=intel_library, warn=out.warn,
    )  # fmt: skip
    verdict = judge.verdict(file)
    out.result(verdict_json(verdict), verdict_text(out, verdict, every_check=checks))
    if verdict.status.value != "verified":
        say_failure(verdict, file)
    return exit_code(verdict)


def verdict_json(verdict: "Verdict") -> dict[str, Any]:
    """Return the object of `verify --json`; one that rests on another root than Intel's says SIMULATED."""
    from glasscase.cli.verdicts import SIMULATED

    value = verdict.to_json()
    return {**value, "notice": SIMULATED} if verdict.simulated else value


class Arguments:
    """The options that verify and others who verify first share. warn: who is told of a statement that cannot count.

    taken: the files that were judged by, each with what it is and its content; they are read once, for some are pipes.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.taken: list[tuple[str, bytes]] = []

    def verdict(self, file: str) -> "Verdict":
        """Return the verdict about a file of evidence or a raw quote."""
        from glasscase.fs.atomic import shell_word

        try:
            return self.judge(read_argument(file, max_bytes=_INPUT_MAX, what="evidence or quote"))
        except FormatError as error:
            if error.what == "evidence" and error.reason in _NO_EVIDENCE:
                error.hint = f"is it evidence at all? glasscase inspect {shell_word(file)} says what it is"
            raise

    def judge(self, content: bytes) -> "Verdict":
        """Return the verdict about the content of such a file."""
        from glasscase.verify.policy import POLICY_MAX, parse_policy

        options = self._options
        at = time_argument(options["at"])
        policy = None
        if options["policy"] is not None:
            policy = parse_policy(self._read(options["policy"], max_bytes=POLICY_MAX, what="policy"))
        common: dict[str, Any] = {
            "anchor": anchor_argument(options["insecure_anchor"], read=self._read),
            "policy": policy,
            "at": at,
            "engine": options["engine"],
            "nonce": nonce_argument(options["nonce"]),
            "intel_library": options.get("intel_library"),
        }
        if options["bundle"] is not None:
            from glasscase.bundle.check import check_bundle
            from glasscase.cli.pinned import trusted_pins

            common["measurement"] = check_bundle(options["bundle"], runtimes=trusted_pins())
        verdict = self._evidence(content, common) if is_evidence(content) else self._quote(content, common)
        if options["at"] is None:
            refuse_behind(verdict)
        return verdict

    def _evidence(self, content: bytes, common: dict[str, Any]) -> "Verdict":
        from glasscase.evidence.format import parse_evidence
        from glasscase.verify.evidence import verify_evidence

        evidence = parse_evidence(content)
        return verify_evidence(
            evidence,
            collateral=self._collateral(evidence.quote),
            statements=self._statements(common["policy"]),
            **common,
        )

    def _statements(self, policy: "Policy | None") -> list[bytes]:
        """Return the content of the --statement files; what counts for nothing whatever it says is warned of."""
        from glasscase.statements.dsse import read_dsse

        paths, warn = self._options["statements"], self._options.get("warn", lambda _text: None)
        found = [self._read(path, max_bytes=_STATEMENT_MAX, what="statement") for path in paths]
        for path, data in zip(paths, found, strict=True):
            try:
                read_dsse(data)
            except FormatError as error:
                warn(f"{path!r} counts for nothing: {error.message}")
        if paths and policy is not None and policy.statements_require == 0:
            warn("no statement was needed: the policy's [statements] require is 0")
        return found

    def _quote(self, content: bytes, common: dict[str, Any]) -> "Verdict":
        from glasscase.verify.quote import verify_quote

        if len(content) > _QUOTE_MAX:
            raise FormatError(
                "quote.bytes.oversize",
                f"this is neither evidence nor a quote: it has {len(content)} bytes",
                hint="glasscase inspect FILE says what it is",
            )
        if self._options["statements"]:
            self._options["warn"]("--statement is for evidence: beside a quote none is read")
        return verify_quote(content, collateral=self._collateral(content), **common)

    def _collateral(self, quote: bytes) -> Any:
        if self._options["collateral"] is None:
            return None
        return collateral_argument(self._options["collateral"], quote, read=self._read)

    def _read(self, path: str, *, max_bytes: int, what: str) -> bytes:
        content = read_argument(path, max_bytes=max_bytes, what=what)
        self.taken.append((what, content))
        return content


def is_evidence(content: bytes) -> bool:
    """Return whether this has the shape of evidence (JSON or a CBOR map) rather than of a quote."""
    begin = content.lstrip(b" \t\r\n")[:1]
    return begin == b"{" or (begin != b"" and 0xA0 <= begin[0] <= 0xBF)


def collateral_argument(path: str, quote: bytes, *, read: Callable[..., bytes] = read_argument) -> Any:
    """Return the collateral in a file, the quote's own platform chosen where the file holds several. read: read_argument."""
    from glasscase.collateral.model import FILE_MAX, parse_collateral

    content = read(path, max_bytes=FILE_MAX, what="collateral")
    try:
        return parse_collateral(content)
    except FormatError as error:
        if error.reason != "collateral.file.ambiguous":
            raise
    from glasscase.core import dcap

    pck = dcap.parse_quote(quote).pck
    if pck is None:
        raise FormatError("collateral.file.ambiguous", "the file holds several platforms and the quote names none")
    return parse_collateral(content, fmspc=pck.fmspc, ca=pck.ca)


def anchor_argument(path: str | None, *, read: Callable[..., bytes] = read_argument) -> "TrustAnchor":
    """Return Intel's anchor, or the one in a PEM file. read: read_argument."""
    from glasscase.verify.anchor import ROOT_MAX, TrustAnchor

    if path is None:
        return TrustAnchor.intel()
    return TrustAnchor.insecure_root(read(path, max_bytes=ROOT_MAX, what="anchor"))


def time_argument(text: str | None) -> "datetime":
    """Return the time that an option such as --at names, without it that of the clock.

    Raises UsageError("cli.time.malformed").
    """
    from datetime import UTC, datetime

    if text is None:
        return clock_time()
    found = None
    try:
        if text.isascii() and text.isdigit() and len(text) <= _SECONDS_DIGITS:
            found = datetime.fromtimestamp(int(text), UTC)
        elif re.fullmatch(_RFC3339, text):
            found = datetime.fromisoformat(text.upper())
    except (ValueError, OverflowError):
        pass
    if found is None or not 1 <= int(found.timestamp()) <= _LAST_S:
        raise UsageError(
            "cli.time.malformed",
            f"{text[:64]!r} is not a time between 1970-01-01T00:00:01Z and the year 9999",
            hint="2026-11-24T20:00:00Z or unix seconds",
        )
    return found


def nonce_argument(text: str | None) -> bytes | None:
    """Return the 32 bytes that --nonce names, None without it. Raises UsageError("cli.nonce.malformed")."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text, re.ASCII):
        raise UsageError(
            "cli.nonce.malformed", f"--nonce is {text[:64]!r}, expected 64 hex digits", hint="openssl rand -hex 32"
        )
    return bytes.fromhex(text)


@verb("policy", help="Write a strict policy for a bundle, to be read, completed and kept by whoever verifies.")
@click.argument("bundle")
@click.option("-o", "--output", metavar="FILE", help="Where the policy goes [default: stdout].")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def policy(out: Output, bundle: str, output: str | None, force: bool) -> int:  # noqa: FBT001
    """Check the bundle, then write what names it."""
    from glasscase.bundle.apart import require_outside
    from glasscase.bundle.check import check_bundle
    from glasscase.cli.pinned import trusted_pins
    from glasscase.cli.reading import result_beside, write_argument
    from glasscase.fs.atomic import shell_word
    from glasscase.verify.policyfile import policy_text

    if output not in (None, "-"):
        require_outside(output, bundle)
    checked = check_bundle(bundle, runtimes=trusted_pins()).require_sound()
    text = policy_text(checked)
    value = {
        "bundle_id": checked.bundle.id.hex(),
        "mrenclave": checked.measurement.mrenclave.hex(),
        "mrsigner": checked.sigstruct.mrsigner.hex() if checked.sigstruct else None,
        "path": output,
    }
    if output is None:
        out.result({**value, "policy": text}, text)
        return 0
    write_argument(out, output, text.encode("utf-8"), overwrite=force)
    result_beside(
        out,
        output,
        value,
        f"wrote     {output}\nnext      glasscase verify EVIDENCE --bundle {shell_word(bundle)} --policy {shell_word(output)}",
    )
    return 0
