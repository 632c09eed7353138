"""The verbs `attest` and `ledger`.

Invariants: a statement is written only after the verification or the rebuild that it speaks of has succeeded here; a ledger
only grows.
"""

import os
import re
import time
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli.output import Output, refuse_given, verb
from glasscase.cli.reading import check_output, read_argument, result_beside, write_argument
from glasscase.cli.reproducing import COMPILE
from glasscase.errors import FormatError, UsageError

if TYPE_CHECKING:
    from glasscase.statements.intoto import Statement
    from glasscase.statements.ledger import Line


@verb("attest", help="Sign a statement: this evidence is verified under this policy, or this bundle was rebuilt here.")
@click.argument("target", metavar="EVIDENCE|BUNDLE")
@click.option("--key", required=True, metavar="FILE", help="The signer's Ed25519 key (keygen --kind owner).")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the statement goes.")
@click.option("--policy", metavar="FILE", help="Evidence: the policy that it must satisfy.")
@click.option("--bundle", metavar="BUNDLE", help="Evidence: recompute this bundle's MRENCLAVE and compare.")
@click.option("--collateral", metavar="FILE", help="Evidence: Intel's collateral [default: its own].")
@click.option("--at", metavar="TIME", help="Evidence: judge as of this time, RFC 3339 or unix seconds [default: now].")
@click.option(
    "--engine",
    type=click.Choice(["native", "intel", "both"]),
    default="native",
    show_default=True,
    help="Evidence: who judges the quote.",
)
@click.option(
    "--insecure-anchor",
    metavar="PEM",
    help="Evidence: trust this root instead of Intel's. The statement says simulated.",
)
@click.option("--nonce", metavar="HEX", help="Evidence: the 32 bytes, as 64 hex digits, that it must answer.")
@click.option("--source", metavar="DIR", help="Bundle: the project that it is said to be built from.")
@click.option("--opening", metavar="O", help="Bundle: the opening of the code commitment, 64 hex digits or a file.")
@click.option(
    "--package-key", metavar="FILE", help="Bundle: the package key, instead of the opening: the provider's own way."
)
@click.option("--wheel", metavar="FILE", help="Bundle: glasscase's own wheel [default: the installed one].")
@click.option("--compile", "compile_again", is_flag=True, help=f"Bundle: {COMPILE}")
@click.option("--uri", metavar="URI", help="Bundle: where the source comes from; with --commit.")
@click.option("--commit", metavar="ID", help="Bundle: which commit of it.")
@click.option(
    "--expires",
    metavar="TIME",
    help="Bundle: until when the statement counts, RFC 3339 or unix seconds [default: for ever].",
)
def attest(out: Output, target: str, *, key: str, output: str, **options: Any) -> int:
    """Verify or rebuild, then sign what came out."""
    from glasscase.cli.sealing import read_owner_key
    from glasscase.statements.dsse import sign_dsse

    check_output(out, output)
    seed = read_owner_key(key)
    statement = _rebuilt(out, target, options) if os.path.isdir(target) else _verified(out, target, options)
    if isinstance(statement, int):
        return statement
    signed = sign_dsse(statement.to_bytes(), seed=seed)
    write_argument(out, output, signed)
    value = {
        "predicate_type": statement.predicate_type,
        "predicate": statement.predicate,
        "mrenclave": statement.mrenclave.hex() if statement.mrenclave else None,
        "path": output,
        "simulated": statement.predicate["simulated"],
    }
    simulated = "SIMULATED this statement counts for nobody\n" if statement.predicate["simulated"] else ""
    result_beside(
        out,
        output,
        value,
        f"wrote     {output}\nsays      {statement.predicate_type} of {value['mrenclave']}\n{simulated}",
    )
    return 0


def _verified(out: Output, target: str, options: dict[str, Any]) -> "Statement | int":
    from glasscase import __version__
    from glasscase.cli.failing import say_failure
    from glasscase.cli.verdicts import exit_code, verdict_text
    from glasscase.cli.verifying import Arguments, is_evidence
    from glasscase.evidence.format import parse_evidence
    from glasscase.statements.intoto import VERIFICATION, Statement

    _refuse(options, "source", "opening", "package_key", "wheel", "uri", "commit", "expires", what="a bundle")
    if options["compile_again"]:
        raise UsageError("cli.usage.wrong", "--compile belongs to a bundle", hint="glasscase attest --help")
    content = read_argument(target, max_bytes=48 * 1024 * 1024, what="evidence")
    if not is_evidence(content):
        raise FormatError("evidence.file.malformed", "attest needs evidence or a bundle", what="evidence")
    evidence = parse_evidence(content)
    verdict = Arguments(**options, statements=()).judge(content)
    if verdict.status.value != "verified" or verdict.valid_until is None:
        out.say(verdict_text(out, verdict))
        say_failure(verdict, target, as_json=out.json)
        return exit_code(verdict)
    policy = verdict.basis.policy
    predicate = {
        "tool": f"glasscase {__version__}",
        "evidence": evidence.evidence_id.hex(),
        "policy": policy.sha256.hex() if policy else "",
        "engine": verdict.engine,
        "at": int(verdict.at.timestamp()),
        "valid_until": int(verdict.valid_until.timestamp()),
        "simulated": verdict.simulated,
    }
    return Statement(verdict.mrenclave, verdict.basis.bundle_id, VERIFICATION, predicate)


def _rebuilt(out: Output, target: str, options: dict[str, Any]) -> "Statement":
    from glasscase import __version__
    from glasscase.cli.reproducing import rebuild_bundle
    from glasscase.cli.verifying import time_argument
    from glasscase.statements.intoto import REPRODUCTION, Statement

    refuse_given("engine", because="belongs to evidence")
    _refuse(options, "policy", "bundle", "collateral", "at", "insecure_anchor", "nonce", what="evidence")
    if (options["uri"] is None) != (options["commit"] is None):
        raise UsageError("cli.usage.wrong", "--uri and --commit belong together", hint="glasscase attest --help")
    checked, result = rebuild_bundle(
        out,
        target,
        source=options["source"],
        opening=options["opening"],
        key=options["package_key"],
        wheel=options["wheel"],
        compile_again=options["compile_again"],
    )
    if not result.same or result.not_checked:
        left = [difference.what for difference in result.differences] or list(result.not_checked)
        raise FormatError(
            "statements.rebuild.incomplete", f"not rebuilt the same: {', '.join(left[:5])}", what="bundle"
        )
    lock = checked.bundle.index.find("glasscase.lock")
    predicate: dict[str, Any] = {
        "tool": f"glasscase {__version__}",
        "method": result.method,
        "lock": lock.sha256.hex() if lock else "",
        "at": int(time.time()),
        "simulated": "simulated" in checked.insecure,
    }
    if options["uri"] is not None:
        predicate["source"] = {"uri": options["uri"], "commit": options["commit"]}
    if options["expires"] is not None:
        predicate["expires"] = int(time_argument(options["expires"]).timestamp())
    return Statement(result.mrenclave, checked.bundle.id, REPRODUCTION, predicate)


def _refuse(options: dict[str, Any], *names: str, what: str) -> None:
    for name in names:
        if options[name] is not None:
            raise UsageError(
                "cli.usage.wrong", f"--{name.replace('_', '-')} belongs to {what}", hint="glasscase attest --help"
            )


_TAKES = {
    "show": (),
    "verify": ("--head", "--statement", "--signer"),
    "retire": ("MRENCLAVE",),
    "head": ("--key", "-o"),
}


@verb(
    "ledger",
    help="Keep the ledger of releases. show lists it, verify checks it against what you remember, retire MRENCLAVE says that a "
    "release is no longer to be trusted, head signs its last line. All four check the whole chain.",
)
@click.argument("action", type=click.Choice(["show", "verify", "retire", "head"]))
@click.argument("mrenclave", required=False)
@click.option("--file", "path", metavar="FILE", help="The ledger [default: the user's own].")
@click.option("--head", metavar="N:HEX", help="verify: the line number and digest that you remember.")
@click.option("--statement", metavar="FILE", help="verify: a signed head that the ledger must continue; with --signer.")
@click.option("--signer", metavar="FILE.pub", help="verify: the key that must have signed it.")
@click.option("--key", metavar="FILE", help="head: the Ed25519 key that signs.")
@click.option("-o", "--output", metavar="FILE", help="head: where the signed head goes.")
def ledger(  # noqa: PLR0917 - one argument for each option
    out: Output,
    action: str,
    mrenclave: str | None,
    path: str | None,
    head: str | None,
    statement: str | None,
    signer: str | None,
    key: str | None,
    output: str | None,
) -> int:
    """Run one of the four actions; every one of them checks the whole chain first."""
    from glasscase.cli.places import data_place
    from glasscase.statements.ledger import LEDGER_MAX, NAME, NO_KEY, parse_ledger

    given = {
        "MRENCLAVE": mrenclave,
        "--head": head,
        "--statement": statement,
        "--signer": signer,
        "--key": key,
        "-o": output,
    }
    for name, value in given.items():
        if value is not None and name not in _TAKES[action]:
            raise UsageError(
                "cli.usage.wrong",
                f"ledger {action} does not take {name}",
                hint="glasscase ledger --help says what does",
            )
    file = path or os.fspath(data_place() / NAME)
    check_output(out, output, file)
    lines = parse_ledger(read_argument(file, max_bytes=LEDGER_MAX, what="ledger"), public_key=NO_KEY)
    done = []
    if action == "verify":
        done = _verify_head(lines, head=head, statement=statement, signer=signer)
    elif action == "retire":
        lines = _retire(file, lines, mrenclave)
    elif action == "head":
        _sign_head(out, lines, key, output)
        done = [f"wrote {output}"]
    _say(out, file, lines, done, output)
    return 0


def _verify_head(
    lines: "tuple[Line, ...]", *, head: str | None, statement: str | None, signer: str | None
) -> list[str]:
    """Return a line for each head that the ledger was found to continue."""
    from glasscase.cli.sealing import read_public_key
    from glasscase.statements.dsse import STATEMENT_MAX, read_dsse
    from glasscase.statements.intoto import LEDGER_HEAD, Statement
    from glasscase.statements.ledger import require_head

    done: list[str] = []
    if head is not None:
        match = re.fullmatch(r"([0-9]{1,9}):([0-9a-f]{64})", head, re.ASCII)
        if match is None:
            raise UsageError("cli.usage.wrong", "--head is a line number, a colon and 64 lower-case hex digits")
        require_head(lines, n=int(match[1]), head=bytes.fromhex(match[2]))
        done.append(f"continues {head}")
    if (statement is None) != (signer is None):
        raise UsageError("cli.usage.wrong", "--statement and --signer belong together", hint="glasscase ledger --help")
    if statement is None or signer is None:
        return done or ["checked its own chain only: give the --head or --statement that you remember"]
    signed = read_dsse(read_argument(statement, max_bytes=STATEMENT_MAX, what="statement"))
    said = Statement.from_bytes(signed.payload)
    if said.predicate_type != LEDGER_HEAD or not signed.signers((read_public_key(signer),)):
        raise FormatError("statements.statement.malformed", "this is no head of a ledger signed by that key")
    require_head(lines, n=said.predicate["n"], head=bytes.fromhex(said.predicate["head"]))
    return [*done, f"continues {said.predicate['n']}:{said.predicate['head']}, signed by {signer}"]


def _retire(file: str, lines: "tuple[Line, ...]", mrenclave: str | None) -> "tuple[Line, ...]":
    """Append a retirement. The file is locked and read again, so that no line of another process is lost."""
    import fcntl

    from glasscase.fs.atomic import read_file, storage_error, write_file
    from glasscase.statements.ledger import LEDGER_MAX, NO_KEY, next_line, parse_ledger, released

    if mrenclave is None or not re.fullmatch(r"[0-9a-f]{64}", mrenclave, re.ASCII):
        raise UsageError(
            "cli.usage.wrong",
            "ledger retire needs a MRENCLAVE of 64 lower-case hex digits",
            hint="glasscase ledger show",
        )
    wanted = bytes.fromhex(mrenclave)
    try:
        handle = os.open(os.path.dirname(os.path.abspath(file)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, file) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        content = read_file(file, max_bytes=LEDGER_MAX, what="ledger")
        lines = parse_ledger(content, public_key=NO_KEY)
        if wanted not in released(lines):
            raise UsageError("ledger.measurement.unknown", f"{mrenclave} is not released in {file!r}")
        last = [line for line in lines if line.mrenclave == wanted][-1]
        line = next_line(
            lines, public_key=NO_KEY, kind="retire", bundle_id=last.bundle_id, mrenclave=wanted, isv_svn=last.isv_svn,
            time=int(time.time()),
        )  # fmt: skip
        write_file(file, content + line.to_bytes(), mode=0o600)
    finally:
        os.close(handle)
    return (*lines, line)


def _sign_head(out: Output, lines: "tuple[Line, ...]", key: str | None, output: str | None) -> None:
    from glasscase.cli.sealing import read_owner_key
    from glasscase.statements.dsse import sign_dsse
    from glasscase.statements.intoto import LEDGER_HEAD, Statement

    if key is None or output is None:
        raise UsageError("cli.usage.wrong", "ledger head needs --key and -o", hint="glasscase ledger --help")
    if not lines:
        raise UsageError("ledger.measurement.unknown", "the ledger is empty, so it has no head")
    predicate = {"n": lines[-1].n, "head": lines[-1].digest.hex(), "at": int(time.time())}
    statement = Statement(None, None, LEDGER_HEAD, predicate)
    write_argument(out, output, sign_dsse(statement.to_bytes(), seed=read_owner_key(key)))


def _say(out: Output, file: str, lines: "tuple[Line, ...]", done: list[str], output: str | None) -> None:
    from glasscase.statements.ledger import released
    from glasscase.verify.rules import when

    known = released(lines)
    value = {
        "path": file,
        "head": f"{lines[-1].n}:{lines[-1].digest.hex()}" if lines else None,
        "released": sorted(mrenclave.hex() for mrenclave in known),
        "lines": [
            {name: item.hex() if isinstance(item, bytes) else item for name, item in vars(line).items()}
            for line in lines
        ],
    }
    text = [
        f"{line.n:<5} {line.kind:<8} {line.mrenclave.hex()}  svn {line.isv_svn}  {when(line.time)}" for line in lines
    ]
    head = f"head  {value['head'] or 'none: the ledger is empty'}"
    result_beside(out, output, value, "\n".join([*text, head, *done]))
