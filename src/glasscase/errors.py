"""The exceptions of glasscase, one class for each kind of fault.

Invariants: every error has a reason, a stable id of the form area.subject.fault that stands in docs/checks.md;
a message never holds a secret. Untrustworthy input to the verifier is data: it yields a verdict, not an exception.
Source: docs/checks.md; exit codes: README.md.
"""

from typing import Any


class Error(Exception):
    """Something went wrong, with a stable reason id, a message for people and perhaps the next step.

    reason: `area.subject.fault`. message: lower case, no full stop. hint: one line, or empty.
    """

    exit_code = 4

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]"

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process with everything but a verdict, which stays where it was judged: `verdict` is None there."""
        facts = {name: None if name == "verdict" else value for name, value in vars(self).items()}
        return _again, (type(self), self.args, facts)


def _again(kind: type[Error], args: tuple[Any, ...], facts: dict[str, Any]) -> Error:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(facts)
    return error


class UsageError(Error):
    """The caller asked for something that cannot be: a wrong option, a wrong argument, a wrong project file. Exit 1."""

    exit_code = 1


class FormatError(Error):
    """The input is not what it must be: malformed, not authentic, or of another kind. Exit 2.

    offset: the byte where it was seen, or None. what: the kind of input that was expected.
    """

    exit_code = 2

    def __init__(self, reason: str, message: str, *, hint: str = "", offset: int | None = None, what: str = "") -> None:
        super().__init__(reason, message, hint=hint)
        self.offset = offset
        self.what = what


class VerificationError(Error):
    """A verdict that is not `verified` was required to be. Exit 2 when it failed, 3 when it is undetermined.

    verdict: the glasscase.verify.verdict.Verdict that says why.
    """

    def __init__(self, reason: str, message: str, *, verdict: Any, undetermined: bool, hint: str = "") -> None:
        super().__init__(reason, message, hint=hint)
        self.verdict = verdict
        self.undetermined = undetermined

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """Return 3 for an undetermined verdict, else 2."""
        return 3 if self.undetermined else 2


class CannotVerify(Error):  # noqa: N818 - a state of knowledge, not a fault
    """No verdict is possible: collateral, clock, network, policy or engine is missing. Exit 3."""

    exit_code = 3


class StorageError(Error):
    """The disk, a file or a process of the host failed. Exit 4. path: what was touched; errno: the system's number."""

    exit_code = 4

    def __init__(self, reason: str, message: str, *, hint: str = "", path: str = "", errno: int | None = None) -> None:
        super().__init__(reason, message, hint=hint)
        self.path = path
        self.errno = errno


class Interrupted(Error):  # noqa: N818 - not a fault
    """The user or the system asked to stop. Exit 5."""

    exit_code = 5
