"""Tracebacks and warnings without messages, and without source lines and names of secret code.

Python writes them to stderr, which the operator reads. The text of an exception may hold a secret whether the application is
encrypted or not. Positions in an encrypted application become the number of the file in the sorted package manifest, which
its provider can look up and nobody else.

Invariants: installed before the first secret exists; no text of an exception and no name of secret code gets out by
an unhandled exception, the logging module, the warnings module, the traceback module or faulthandler. What is not known to be
measured code counts as secret. Only a fatal error of the interpreter itself is beyond this.
Source: docs/provisioning.md, "What the operator sees".
"""

import asyncio
import concurrent.futures
import faulthandler
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
    """Says positions without telling secrets. measured: directories of code that all may read; None if no code is secret."""

    def __init__(self, measured: tuple[str, ...] | None) -> None:
        self.secret = measured is not None
        self._measured = ("<frozen ", *(f"{path}/" for path in measured or () if path.startswith("/")))
        self._numbers: Mapping[str, int] = {}

    def number(self, files: Mapping[str, int]) -> None:
        """Give the numbers of the secret files, absolute path to number."""
        self._numbers = dict(files)

    def hides(self, path: str) -> bool:
        """Return whether this may be a file of secret code, or a name that secret code has made up."""
        return self.secret and not path.startswith(self._measured)

    def place(self, path: str, line: int | None) -> str:
        """Return the text of one position."""
        if self.hides(path):
            path = f"app#{self._numbers.get(path, '?')}"
        return f"{path}:{line or 0}"

    def kind(self, kind: type[Any] | None) -> str:
        """Return the name of an exception or warning class, unless secret code may have defined it."""
        if kind is None:
            return "exception"
        if self.secret and not self._is_measured(kind):
            return "an exception of the application"
        return f"{kind.__module__}.{kind.__qualname__}"

    def _is_measured(self, kind: type[Any]) -> bool:
        """Return whether a measured module has this very class under the name that the class goes by."""
        module = sys.modules.get(str(kind.__module__))
        file = getattr(module, "__file__", None)
        if self.hides(file or "") and kind.__module__ not in sys.builtin_module_names:
            return False
        found: Any = module
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        return found is kind

    def exception(self, kind: type[Any] | None, positions: list[_Position]) -> Iterator[str]:
        """Return the lines for one exception, outermost position first."""
        yield f"redacted: {self.kind(kind)}\n"
        for path, line in positions:
            yield f"  at {self.place(path, line)}\n"


def install(redactor: Redactor) -> None:
    """Make the interpreter and the standard library speak through `redactor` from now on."""
    _install_lines(redactor)
    if redactor.secret:
        _silence()
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


def _silence() -> None:
    """Still what cannot be redacted: it writes names from C, at a crash too, or puts them into a text of the library."""

    def nothing(*_arguments: Any, **_named: Any) -> None:
        return None

    for name in ("enable", "dump_traceback", "dump_traceback_later", "register"):
        setattr(faulthandler, name, nothing)
    concurrent.futures.Future.__repr__ = lambda _future: "<a future>"  # type: ignore[method-assign]


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
