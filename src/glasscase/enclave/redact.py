"""Tracebacks and warnings without messages, and without source lines and names of secret code.

Python writes them to stderr, which the operator reads. The text of an exception may hold a secret whether the application is
encrypted or not. Positions in an encrypted application become the number of the file in the sorted package manifest, which
its provider can look up and nobody else.

Invariants: installed before the first secret exists; no text of an exception and no name of secret code gets out by
an unhandled exception, the logging module, the warnings module or the traceback module.
Source: docs/provisioning.md, "What the operator sees".
"""

import asyncio
import linecache
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, TextIO

_Position = tuple[str, int | None]


class Redactor:
    """Says positions without telling secrets. directory: where the secret code will lie, None if no code is secret."""

    def __init__(self, directory: str | None) -> None:
        self._directory = None if directory is None else directory.rstrip("/") + "/"
        self._numbers: Mapping[str, int] = {}

    def number(self, files: Mapping[str, int]) -> None:
        """Give the numbers of the secret files, absolute path to number."""
        self._numbers = dict(files)

    def hides(self, path: str) -> bool:
        """Return whether this is a file of secret code."""
        return self._directory is not None and path.startswith(self._directory)

    def place(self, path: str, line: int | None) -> str:
        """Return the text of one position."""
        if self.hides(path):
            path = f"app#{self._numbers.get(path, '?')}"
        return f"{path}:{line or 0}"

    def kind(self, kind: type[Any] | None) -> str:
        """Return the name of an exception or warning class, unless secret code defines it."""
        if kind is None:
            return "exception"
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        secret = self._directory is not None if file is None else self.hides(file)
        secret = secret and kind.__module__ != "builtins" and kind.__module__ not in sys.builtin_module_names
        return "an exception of the application" if secret else f"{kind.__module__}.{kind.__qualname__}"

    def exception(self, kind: type[Any] | None, positions: list[_Position]) -> Iterator[str]:
        """Return the lines for one exception, outermost position first."""
        yield f"redacted: {self.kind(kind)}\n"
        for path, line in positions:
            yield f"  at {self.place(path, line)}\n"


def install(redactor: Redactor) -> None:
    """Make the interpreter and the standard library speak through `redactor` from now on."""
    _install_lines(redactor)
    logging.raiseExceptions = False
    _install_tracebacks(redactor)
    asyncio.BaseEventLoop.default_exception_handler = _report_quietly  # type: ignore[method-assign, assignment]

    def unhandled(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        traceback.print_exception(kind, error, where)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            traceback.print_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    def unraisable(arguments: Any) -> None:
        traceback.print_exception(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    def warned(  # noqa: PLR0917 - the signature of warnings.showwarning
        message: Warning | str, category: type[Warning], filename: str, lineno: int,
        file: TextIO | None = None, line: str | None = None,
    ) -> None:  # fmt: skip
        del message, line
        stream = file or sys.stderr
        stream.write(formatted("", category, filename, lineno))

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        del message, line
        return f"redacted: {redactor.kind(category)} at {redactor.place(filename, lineno)}\n"

    sys.excepthook = unhandled
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
    warnings.showwarning = warned
    warnings.formatwarning = formatted


def is_redacted(text: str) -> bool:
    """Return whether a text has only lines of the redactor."""
    return all(line.startswith(("redacted: ", "  at ")) for line in text.splitlines())


def _report_quietly(_loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio could not deliver, in whatever loop; its own text would show names and values of secret code."""
    error = context.get("exception")
    text = "an error in the event loop"
    logging.getLogger("glasscase").error(text, exc_info=error if isinstance(error, Exception) else None)


def _install_tracebacks(redactor: Redactor) -> None:
    def lines(self: traceback.TracebackException, **_options: Any) -> Iterator[str]:
        positions = [(frame.filename, frame.lineno) for frame in self.stack]
        yield from redactor.exception(getattr(self, "exc_type", None), positions)

    def only(self: traceback.TracebackException, **_options: Any) -> Iterator[str]:
        yield f"redacted: {redactor.kind(getattr(self, 'exc_type', None))}\n"

    def stack(self: traceback.StackSummary, **_options: Any) -> list[str]:
        return [f"  at {redactor.place(frame.filename, frame.lineno)}\n" for frame in self]

    traceback.TracebackException.format = lines  # type: ignore[method-assign, assignment]
    traceback.TracebackException.format_exception_only = only  # type: ignore[method-assign, assignment]
    traceback.StackSummary.format = stack  # type: ignore[method-assign]


def _install_lines(redactor: Redactor) -> None:
    update = linecache.updatecache

    def lines(filename: str, module_globals: dict[str, Any] | None = None) -> list[str]:
        return [] if redactor.hides(filename) else update(filename, module_globals)

    linecache.updatecache = lines
