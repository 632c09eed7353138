"""How a failure is said: one line with its id on stderr, a hint if there is a next step, one object with --json.

Invariants: text from outside is escaped; the exit code is that of the error.
"""

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from glasscase.cli.output import escape
from glasscase.errors import Error
from glasscase.fs.atomic import shell_word

if TYPE_CHECKING:
    from glasscase.verify.verdict import Verdict


def report_error(error: Error, *, as_json: bool, source: str = "FILE") -> int:
    """Write an error for people to stderr, and as one object to stdout with --json; return its exit code.

    source: what was judged, for the hints of a verdict.
    """
    code = int(error.exit_code)
    hint = error.hint or _remedy(error.reason)
    sys.stderr.write(f"glasscase: error: {escape(error.message)} [{error.reason}]\n")
    if hint:
        sys.stderr.write(f"glasscase: hint: {escape(hint)}\n")
    verdict = getattr(error, "verdict", None)
    if verdict is not None:
        from glasscase.cli.verdicts import further_hints

        for more in further_hints(verdict, error.reason, source):
            sys.stderr.write(f"glasscase: hint: {escape(more)}\n")
    if as_json:
        import json

        with contextlib.suppress(OSError):  # stdout may be what has failed
            sys.stdout.write(json.dumps(failure(error), indent=2) + "\n")
    return code


def failure(error: Error) -> dict[str, Any]:
    """Return the object of --json for an error."""
    hint = error.hint or _remedy(error.reason)
    return {
        "error": {"id": error.reason, "message": error.message, "hint": hint},
        "exit": int(error.exit_code),
    }


def _remedy(reason: str) -> str:
    """Return what the table says to do about a reason, for errors that carry no hint of their own."""
    from glasscase.reasons.table import reasons

    found = reasons().get(reason)
    return found.remedy if found else ""


def say_failure(verdict: "Verdict", source: str, *, as_json: bool = False) -> None:
    """Write the error line and hints of a verdict that is not verified to stderr. source: the file that was judged.

    as_json: stdout gets the object of a failure; leave it away where the verdict itself is the result.
    """
    from glasscase.errors import VerificationError
    from glasscase.verify import catalog

    check = verdict.decisive
    undetermined = verdict.status.value == "undetermined"
    if check is None:
        error = VerificationError(
            "verdict.status.unmet", "not every check could be reached", verdict=verdict, undetermined=undetermined
        )
    else:
        hint = catalog.remedy_of(check.id).replace("--for FILE", f"--for {shell_word(source)}")
        text = catalog.message_of(check.id)
        if check.observed and len(check.observed) <= 200:
            text += f" ({check.observed})"
        error = VerificationError(check.id, text, hint=hint, verdict=verdict, undetermined=undetermined)
    report_error(error, as_json=as_json, source=source)
