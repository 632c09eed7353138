"""Reading and writing what an argument names: a path, or `-` for standard input or output."""

import errno
import os
import sys
from typing import Any

import click

from glasscase.cli.output import Output
from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import read_file, read_stream, storage_error, write_file

_STDIN = "glasscase.stdin"  # what has taken standard input, in the context of the running verb


def read_argument(path: str, *, max_bytes: int, what: str) -> bytes:
    """Return the content of the file `path`, or of standard input for "-", at most max_bytes bytes.

    Raises UsageError if two arguments want standard input: the second would find it empty.
    """
    if path != "-":
        return read_file(path, max_bytes=max_bytes, what=what, streams=True)
    context = click.get_current_context(silent=True)
    if context is not None:
        first = context.meta.get(_STDIN)
        if first is not None:
            both = f"both {first} and {what}" if first != what else f"{what} twice"
            raise UsageError("cli.usage.wrong", f"standard input cannot be {both}", hint="give one of them as a file")
        context.meta[_STDIN] = what
    return read_stream(sys.stdin.buffer, max_bytes=max_bytes, what=what)


def write_argument(out: Output, path: str, data: bytes, *, mode: int = 0o644, overwrite: bool = True) -> None:
    """Write `data` to the file `path`, whole or not at all, or to standard output for "-".

    Raises UsageError if that is a terminal and `data` is no plain text: it may hold anything that an enclave has sent.
    """
    if path != "-":
        write_file(path, data, mode=mode, overwrite=overwrite)
        return
    check_output(out, path)
    if sys.stdout.isatty() and not _is_plain(data):
        raise UsageError("cli.usage.wrong", "binary output does not go to a terminal", hint="write to a file or a pipe")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _is_plain(data: bytes) -> bool:
    return data.isascii() and data.replace(b"\n", b"").replace(b"\t", b"").decode("ascii").isprintable()


def check_stdout(out: Output, path: str | None) -> None:
    """Raise UsageError if both --json and `path` want standard output."""
    if path == "-" and out.json:
        raise UsageError("cli.usage.wrong", "--json and -o - both want stdout", hint="write to a file with -o FILE")


def check_output(out: Output, path: str | None, *reads: str) -> None:
    """Raise UsageError like check_stdout, and if the running verb reads the file `path`, as require_not_read says."""
    check_stdout(out, path)
    require_not_read(path, "-o", *reads)


def require_not_read(path: str | None, option: str, *reads: str) -> None:
    """Raise UsageError if the running verb reads the file `path`, which `option` names, or a bundle in which that lies.

    The place of an input is never taken: evidence cannot be collected again as it was, and a key not made again. A file more
    spoils a bundle. reads: what is read without having been named.
    """
    context = click.get_current_context(silent=True)
    if context is None or path is None or path == "-":
        return
    inputs: list[tuple[str, Any]] = []
    for parameter in context.command.params:
        if option in parameter.opts or not isinstance(parameter.type, click.Path):
            continue
        given = context.params.get(parameter.name or "")
        what = "the input" if isinstance(parameter, click.Argument) else f"what {parameter.opts[0]} names"
        inputs += [(what, name) for name in (given if isinstance(given, tuple) else (given,))]
    inputs += [("the input", name) for name in reads]
    for what, name in inputs:
        if _same_file(name, path):
            raise UsageError("cli.usage.wrong", f"the output is {what}", hint="choose another name for the output")
        if isinstance(name, str) and os.path.isfile(os.path.join(name, "bundle.json")):
            from glasscase.bundle.apart import require_outside

            require_outside(path, name)


def _same_file(name: Any, path: str | None) -> bool:
    try:
        return isinstance(name, str) and path is not None and os.path.samefile(name, path)
    except (OSError, ValueError):
        return False


def result_beside(out: Output, path: str | None, value: dict[str, Any], text: str) -> None:
    """Give the result of a verb that has written to `path`: as talk if that was standard output."""
    if path == "-":
        out.say(text)
    else:
        out.result(value, text)


def bundle_files(bundle: str) -> tuple[str, str]:
    """Return the paths of manifest.sgx and libpal.so of a bundle.

    Raises FormatError if it is no directory, StorageError if it is none or holds no manifest.sgx.
    """
    if os.path.exists(bundle) and not os.path.isdir(bundle):
        raise FormatError(
            "measure.bundle.wrong",
            f"{bundle!r} is not the directory of a bundle",
            hint="for a manifest.sgx give --manifest M.sgx --libpal PAL",
            what="bundle",
        )
    manifest = os.path.join(bundle, "app.manifest.sgx")
    if not os.path.lexists(manifest):
        error = storage_error(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), manifest)
        error.hint = "a bundle is the directory that glasscase build or import wrote"
        raise error
    return manifest, os.path.join(bundle, "runtime", "libpal.so")
