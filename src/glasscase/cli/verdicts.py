"""How a verdict is shown to people: one line for each subject, every failed check by id, and what was not checked.

Invariants: a verdict that rests on another root than Intel's begins and ends with SIMULATED; every failed check is shown; words
stand beside every color.
"""

from typing import TYPE_CHECKING, Any

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape
from glasscase.fs.atomic import shell_word

if TYPE_CHECKING:
    from glasscase.verify.check import Check
    from glasscase.verify.verdict import Verdict

SIMULATED = "SIMULATED  the trust anchor is not Intel's: this says nothing about real hardware"
_STATUS_COLOR = {"verified": "green", "failed": "red", "undetermined": "yellow"}
# the subject of a check, by the area of its id; where the area is not here, by its fault; else it is about signatures
_BY_AREA = {
    "policy": "measurement", "engine": "engines", "crl": "revocation", "freshness": "freshness", "collateral": "freshness",
    "platform": "platform", "enclave": "enclave", "binding": "binding", "instance": "instance", "statements": "statements",
}  # fmt: skip
_BY_FAULT = {"revoked": "revocation", "expired": "freshness", "not_yet_valid": "freshness"}
_ORDER = ("measurement", "signatures", "revocation", "platform", "enclave", "binding", "freshness", "instance",
          "statements", "engines")  # fmt: skip
_SHOWN = 3  # failed checks of one subject in the summary
_LATE = (".stale", ".expired", ".old")
_FACTS = ("measurement", "platform", "freshness")  # shown without a policy too, when the quote is genuine
_SIMULATOR_FMSPC = b"SIMULA"
_NO_QUOTE = ("quote.version.unsupported", "quote.bytes.truncated", "quote.bytes.oversize")  # what other files fail by
_COMMON = ("state.rollback", "machine.location", "code.intent", "time.inside")  # said in full by the report


def exit_code(verdict: "Verdict") -> int:
    """Return 0, 2 or 3."""
    codes = {"verified": exitcodes.OK, "failed": exitcodes.FAILED, "undetermined": exitcodes.UNDETERMINED}
    return codes[verdict.status.value]


def verdict_text(out: Output, verdict: "Verdict", *, every_check: bool = False) -> str:
    """Return the lines for people. every_check: list all checks, else one line for each subject and the failed checks."""
    lines = [SIMULATED] if verdict.simulated else []
    grouped: dict[str, list[Check]] = {name: [] for name in _ORDER}
    for check in verdict.checks:
        grouped[subject_of(check.id)].append(check)
    for name in _ORDER:
        lines += _subject_lines(out, verdict, name, grouped[name])
    if every_check:
        lines += [f"      {check.outcome.replace('_', ' '):<15} {_line(check)}" for check in verdict.checks]
    lines += [f"NOTE  relaxed       {', '.join(verdict.insecure)}"] if verdict.insecure else []
    said = [name for name in verdict.not_checked if name not in _COMMON]
    lines.append(f"NOTE  not checked   {', '.join(said)}; see docs/threat-model.md")
    lines.append(_last_line(out, verdict))
    if verdict.simulated:
        lines.append(SIMULATED)
    return "\n".join(lines)


def further_hints(verdict: "Verdict", name: str, source: str) -> list[str]:
    """Return further next steps for the failures that people meet most."""
    if name == "root.certificate.unknown" and verdict.pck is not None and verdict.pck.fmspc == _SIMULATOR_FMSPC:
        return ["this quote is by the simulator: --insecure-anchor ROOT.pem judges it, and says SIMULATED"]
    if name in _NO_QUOTE:
        return [f"is it evidence or a quote at all? glasscase inspect {shell_word(source)} says what it is"]
    if name == "policy.mrenclave.mismatch":
        return ["have the other bundle? run: glasscase why BUNDLE OTHER"]
    if name.endswith(".not_yet_valid"):
        from glasscase.verify.rules import when

        issued = f" (issued {when(verdict.core.latest_issue)})" if verdict.core.latest_issue else ""
        return [f"the clock, or --at, is behind the collateral{issued}: is the clock of this machine right?"]
    if name.endswith(_LATE) and verdict.core.latest_issue:
        from glasscase.verify.rules import when

        return [
            f"to judge the day it was made: glasscase verify {shell_word(source)} --at {when(verdict.core.latest_issue)} ..."
        ]
    return []


def subject_of(name: str) -> str:
    """Return the subject that a check belongs to."""
    area, fault = name.partition(".")[0], name.rpartition(".")[2]
    return _BY_AREA.get(area) or _BY_FAULT.get(fault, "signatures")


def _subject_lines(out: Output, verdict: "Verdict", name: str, checks: "list[Check]") -> list[str]:
    failed = [check for check in checks if check.outcome == "fail"]
    if verdict.basis.policy is None and name in _FACTS and verdict.core.genuine:
        return [f"{out.paint('SEEN', 'dim')}  {name:<13} {escape(_summary(verdict, name))}"]
    if failed:
        lines = [_failed_line(out, name, check) for check in failed[:_SHOWN]]
        more = len(failed) - _SHOWN
        return [*lines, f"      {name:<13} and {more} more (--checks lists all)"] if more > 0 else lines
    if all(check.outcome == "not_applicable" for check in checks):
        return []
    if any(check.outcome == "not_reached" for check in checks):
        return [f"{out.paint('----', 'yellow')}  {name:<13} not reached"]
    return [f"{out.paint('PASS', 'green')}  {name:<13} {escape(_summary(verdict, name))}"]


def _failed_line(out: Output, name: str, check: "Check") -> str:
    word, color = (
        ("FAIL", "red") if check.kind == "proof" else ("LATE" if check.id.endswith(_LATE) else "OPEN", "yellow")
    )
    return f"{out.paint(word, color)}  {name:<13} {_line(check)}"


def _line(check: "Check") -> str:
    from glasscase.verify.catalog import message_of

    seen = f"{check.observed}, expected {check.expected}" if check.expected else check.observed
    return escape(f"{seen or message_of(check.id)} [{check.id}]")


def _summary(verdict: "Verdict", name: str) -> str:
    return str(_SUMMARIES[name](verdict))


def _measurement(verdict: "Verdict") -> str:
    quoted = short(verdict.mrenclave)
    computed = verdict.basis.measurement
    if verdict.basis.policy is None:
        return f"quoted {verdict.mrenclave.hex() if verdict.mrenclave else quoted}"
    if computed is None:
        return f"quoted {quoted} is one that the policy accepts"
    areas = sum(1 for area in getattr(computed, "areas", ()) if area.measured)
    return f"recomputed {short(computed.mrenclave)} = quoted {quoted}  (from {areas} measured areas)"


def _signatures(verdict: "Verdict") -> str:
    ca = verdict.pck.ca.capitalize() if verdict.pck else "PCK"
    root = "SIMULATED root" if verdict.simulated else "Intel SGX Root CA (pinned)"
    return f"quote <- attestation key <- QE <- PCK <- PCK {ca} CA <- {root}"


def _revocation(verdict: "Verdict") -> str:
    core, now = verdict.core, int(verdict.at.timestamp())
    parts = [
        f"{what} #{number} (age {(now - core.windows[item].start) // 86400} d)"
        for what, number, item in (
            ("root CRL", core.root_ca_crl_number, "root_ca_crl"),
            ("PCK CRL", core.pck_crl_number, "pck_crl"),
        )
        if item in core.windows
    ]
    return ", ".join(parts)


def _platform(verdict: "Verdict") -> str:
    advisories = ", ".join(verdict.advisories) or "no advisories"
    return f"{verdict.tcb_status}, TCB evaluation {verdict.core.tcb_info_evaluation}, {advisories}"


def _enclave(verdict: "Verdict") -> str:
    report = verdict.report
    if report is None:
        return ""
    mode = "DEBUG" if report.debug else "production"
    return f"{mode}, signer {short(report.mrsigner)}, product {report.isv_prod_id}, svn {report.isv_svn}"


def _freshness(verdict: "Verdict") -> str:
    wanted = {"freshness.unproven": "made after", "collateral.tcbinfo.stale": "TCB info"}
    parts = [f"{wanted[c.id]} {c.observed}" for c in verdict.checks if c.id in wanted and c.outcome == "pass"]
    return "; ".join(parts) or "every window holds"


_SUMMARIES: dict[str, Any] = {
    "measurement": _measurement,
    "signatures": _signatures,
    "revocation": _revocation,
    "platform": _platform,
    "enclave": _enclave,
    "binding": lambda _: "report_data = SHA-256(claims); the claims name the TLS key and the seal key",
    "freshness": _freshness,
    "instance": lambda _: "provisioned as the policy says",
    "statements": lambda _: "enough of the policy's keys vouch",
    "engines": lambda verdict: f"{verdict.engine}: agree",
}


def _last_line(out: Output, verdict: "Verdict") -> str:
    word = out.paint(verdict.status.value.upper(), _STATUS_COLOR[verdict.status.value])
    at = verdict.at.strftime("%Y-%m-%d %H:%M:%SZ")
    if verdict.status.value != "verified" or verdict.valid_until is None:
        return f"{word}  as of {at}"
    until = verdict.valid_until.strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{word}  as of {at}, valid until {until} ({verdict.limit})"


def short(digest: bytes | None) -> str:
    """Return the first and last two bytes of a digest in hex."""
    return f"{digest[:4].hex()}...{digest[-4:].hex()}" if digest else "nothing"
