"""The verbs `encrypt`, `decrypt` and `disclose`.

Invariants: the input is never changed; a failed run leaves no output file or directory; to a pipe go only verified chunks,
and the exit code says whether that was all.
"""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, verb

_DEFAULT_THREADS_MAX = 4
_NOT_ALL = "stdout has got {} bytes of the content, which are authentic but not all of it"
_NO_FILE = "stdout has got the beginning of an encrypted file, {} bytes of the content; nothing decrypts it to its end"


def _common(function: Any) -> Any:
    options = [
        click.argument("source", metavar="IN", type=click.Path()),
        click.option(
            "-o",
            "--output",
            "target",
            required=True,
            metavar="OUT",
            type=click.Path(),
            help="Where the result goes; `-` is stdout, for a single file.",
        ),
        click.option("--key", required=True, metavar="FILE", type=click.Path(), help="The package key, 32 raw bytes."),
        click.option(
            "--threads",
            type=click.IntRange(1, 64),
            metavar="N",
            help="Threads that work [default: one for each processor, at most 4].",
        ),
        click.option(
            "--context",
            default="",
            metavar="TEXT",
            help="Text bound to the file: decrypt needs the same [default: the empty one].",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@verb("encrypt", help="Encrypt a file to a file, or a directory to a package (a directory with manifest and blobs).")
@_common
def encrypt(out: Output, source: str, target: str, *, key: str, threads: int | None, context: str) -> None:
    """Encrypt IN with a key; IN is not changed."""
    from glasscase.cli.keys import read_package_key
    from glasscase.cli.progress import Bar
    from glasscase.core import stream
    from glasscase.fs.atomic import require_no_key

    binding = context.encode("utf-8", "surrogateescape")
    target = _stdout_as_dash(target)
    _check_places(out, source, target, key)
    if target != "-":
        require_no_key(target)
    secret = read_package_key(key)
    if source != "-" and os.path.isdir(source):
        _encrypt_directory(out, source, target, key=secret, threads=threads or _cores(), context=binding)
        return
    with Bar(out, "encrypt", _size_of(source)) as bar:
        if source != "-" and target != "-":
            message = stream.encrypt_file(
                source, target, key=secret, threads=threads or _cores(), context=binding, progress=bar.update
            )
        else:
            message = _through(
                bar, stream.encrypt_pipe, source, target, left=_NO_FILE, key=secret, size=_size_of(source), context=binding,
                threads=threads or _cores(), progress=bar.update,
            )  # fmt: skip
    out.result(
        {"bytes": message.size, "files": 1, "header": message.header.hex()},
        "" if target == "-" else f"encrypted  1 file, {message.size} bytes, to {target}",
    )


@verb("decrypt", help="Decrypt a file, or a package or bundle directory with all its files.")
@_common
@click.option(
    "--model-key",
    "model_keys",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="Key of models in a package that have their own; repeatable.",
)
@click.option(
    "--legacy",
    type=click.Choice(["secretbox", "fernet", "sealed-box"]),
    help="Read what the predecessor, Cosmian Enclave, has written; --key is its key file.",
)
def decrypt(
    out: Output, source: str, target: str, *, key: str, threads: int | None, context: str, model_keys: tuple[str, ...],
    legacy: str | None,
) -> None:  # fmt: skip
    """Decrypt IN with its key; nothing is written under the final name before all of it is verified."""
    from glasscase.cli.keys import read_package_key
    from glasscase.cli.legacy import decrypt_legacy
    from glasscase.cli.progress import Bar
    from glasscase.core import stream
    from glasscase.errors import UsageError

    binding = context.encode("utf-8", "surrogateescape")
    target = _stdout_as_dash(target)
    _check_places(out, source, target, key)
    if legacy is not None:
        if binding or model_keys:
            raise UsageError(
                "cli.usage.wrong", "--legacy takes no --context and no --model-key", hint="leave them away"
            )
        decrypt_legacy(out, source, target, key=key, kind=legacy)
        return
    secret = read_package_key(key)
    if source != "-" and os.path.isdir(source):
        models = [read_package_key(path) for path in model_keys]
        _decrypt_directory(out, source, target, key=secret, threads=threads or _cores(), context=binding, models=models)
        return
    if model_keys:
        raise UsageError("cli.usage.wrong", "--model-key belongs to a package directory", hint="leave it away")
    with Bar(out, "decrypt", _size_of(source)) as bar:
        if source != "-" and target != "-":
            message = stream.decrypt_file(
                source, target, key=secret, threads=threads or _cores(), context=binding, progress=bar.update
            )
        else:
            message = _through(
                bar, stream.decrypt_pipe, source, target, left=_NOT_ALL, key=secret, context=binding, threads=threads or _cores(),
                progress=bar.update, expect=bar.expect,
            )  # fmt: skip
    out.result(
        {"bytes": message.size, "files": 1, "header": message.header.hex()},
        "" if target == "-" else f"decrypted  1 file, {message.size} bytes, to {target}",
    )


@verb("disclose", help="Write the opening of a bundle's code commitment, for an auditor who has the source.")
@click.argument("bundle", type=click.Path())
@click.option("--key", required=True, metavar="FILE", type=click.Path(), help="The package key.")
@click.option(
    "--model-key",
    "model_keys",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="Key of models that have their own; repeatable.",
)
@click.option(
    "-o", "--output", "target", required=True, metavar="FILE", type=click.Path(), help="Where the opening goes."
)
def disclose(out: Output, bundle: str, *, key: str, model_keys: tuple[str, ...], target: str) -> None:
    """Check the package against the bundle, then write the opening of this release, and of no other."""
    from glasscase.bundle.apart import require_outside
    from glasscase.cli.keys import read_package_key
    from glasscase.codec import strictjson
    from glasscase.errors import StorageError
    from glasscase.fs.atomic import write_file

    if not os.path.exists(bundle):
        raise StorageError("fs.file.missing", f"there is no bundle {bundle!r}")
    if target != "-":
        require_outside(target, bundle)
    package = _open_directory(
        bundle, read_package_key(key), [read_package_key(path) for path in model_keys], b""
    ).package
    value = {
        "v": 1,
        "type": "glasscase-opening",
        "package_digest": package.digest.hex(),
        "opening": package.opening.hex(),
    }
    if target == "-":
        out.result(value, strictjson.write(value).decode("utf-8"))
        return
    write_file(target, strictjson.write(value), mode=0o600)
    out.result(
        {"opening": target, "package_digest": package.digest.hex(), "commitment": package.commitment.hex()},
        f"commitment  {package.commitment.hex()}\nwrote       {target}\n"
        "who has it and the source can confirm what runs; without the source it says nothing",
    )


def _encrypt_directory(out: Output, source: str, target: str, *, key: Any, threads: int, context: bytes) -> None:
    from glasscase.cli.progress import Bar
    from glasscase.core.chunks import check_context, sealed_size
    from glasscase.core.stream import precheck
    from glasscase.fs.directory import atomic_directory
    from glasscase.fs.walk import walk
    from glasscase.seal.package import build_package, sources_of

    _refuse_stdout(target, source)
    check_context(context)
    sizes = [entry.size for entry in walk(source) if not entry.directory]
    precheck(target, sum(sealed_size(size) for size in sizes))
    sources = sources_of(source)
    with Bar(out, "encrypt", sum(sizes)) as bar, atomic_directory(target) as part:
        package = build_package(sources, key=key, out_dir=part, threads=threads, context=context, progress=bar.update)
    out.result(
        {"bytes": package.size, "files": len(sizes), "header": package.header.hex()},
        f"encrypted  {len(sizes)} files, {package.size} bytes, to {target}",
    )


def _decrypt_directory(
    out: Output, source: str, target: str, *, key: Any, threads: int, context: bytes, models: Sequence[Any]
) -> None:
    from glasscase.cli.progress import Bar
    from glasscase.core.stream import precheck
    from glasscase.fs.directory import atomic_directory

    _refuse_stdout(target, source)
    opened = _open_directory(source, key, models, context)
    precheck(target, opened.package.size)
    with Bar(out, "decrypt", opened.package.size) as bar, atomic_directory(target, mode=0o700) as part:
        count = opened.unpack(part, threads=threads, durable=True, progress=bar.update)
    out.result(
        {"bytes": opened.package.size, "files": count, "header": opened.package.header.hex()},
        f"decrypted  {count} files, {opened.package.size} bytes, to {target}",
    )


def _open_directory(path: str, key: Any, models: Sequence[Any], context: bytes) -> Any:
    """Return the package in a directory, or that of a bundle, which must be the one that the bundle has measured."""
    from glasscase.config.enclave import EnclaveConfig
    from glasscase.errors import FormatError
    from glasscase.fs.atomic import read_file
    from glasscase.seal.files import MANIFEST_NAME, open_package

    by_id = {model.id: model for model in models}
    config_path = os.path.join(path, "rootfs", "opt", "glasscase", "enclave.cbor")
    if os.path.exists(os.path.join(path, MANIFEST_NAME)) or not os.path.exists(config_path):
        return open_package(path, key=key, model_keys=by_id, context=context, lazy_unchecked=True)
    config = EnclaveConfig.from_bytes(read_file(config_path, max_bytes=64 << 10, what="enclave.cbor"))
    if config.package is None or config.commitment is None:
        raise FormatError("package.manifest.missing", f"{path!r} is a bundle whose application is not encrypted")
    return open_package(
        os.path.join(path, "blobs"), key=key, header=config.package, commitment=config.commitment, model_keys=by_id,
        context=context, lazy_unchecked=config.models == "key",
    )  # fmt: skip


def _through(bar: Any, crypt: Callable[..., Any], source: str, target: str, *, left: str, **options: Any) -> Any:
    """Send stdin or a file in order to stdout or a file. left: what to say if stdout has got a part and does not get the rest."""
    from glasscase.core.stream import open_source
    from glasscase.errors import Error
    from glasscase.fs.part import PartFile

    stdin: BinaryIO = sys.stdin.buffer
    with stdin if source == "-" else open_source(source) as file:
        if target == "-":
            try:
                return crypt(file.fileno(), sys.stdout.fileno(), **options)
            except BrokenPipeError:  # whoever read it has enough
                raise SystemExit(exitcodes.INTERRUPTED) from None
            except (Error, KeyboardInterrupt):
                if bar.done:
                    bar.warn(left.format(bar.done))
                raise
        with PartFile(target) as output:
            return crypt(file.fileno(), output, **options)


def _check_places(out: Output, source: str, target: str, key: str) -> None:
    from glasscase.errors import UsageError

    if target == "-" and out.json:
        raise UsageError("cli.usage.wrong", "--json and -o - both want stdout", hint="write to a file with -o FILE")
    if target == "-" and sys.stdout.isatty():
        raise UsageError("cli.usage.wrong", "binary output does not go to a terminal", hint="write to a file or a pipe")
    if source == "-" and key == "-":
        raise UsageError("cli.usage.wrong", "stdin cannot be both the input and the key", hint="give one as a file")
    for name, what in ((source, "input"), (key, "key")):
        if _same(name, target):
            raise UsageError("cli.usage.wrong", f"the output is the {what}", hint="choose another name for the output")
    if source != "-" and target != "-" and os.path.isdir(source) and _is_inside(target, source):
        raise UsageError(
            "cli.usage.wrong", f"the output would be inside the input {source!r}", hint="choose a place beside it"
        )


def _stdout_as_dash(target: str) -> str:
    return "-" if target in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1") else target


def _refuse_stdout(target: str, source: str) -> None:
    from glasscase.errors import UsageError

    if target == "-":
        raise UsageError("cli.usage.wrong", f"{source!r} is a directory, stdout takes one file", hint="give -o DIR")


def _same(source: str, target: str) -> bool:
    """Return whether two names, of which `-` is stdin or stdout, are one; standard streams are if they are one regular file."""
    try:
        first = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
        second = os.fstat(sys.stdout.fileno()) if target == "-" else os.stat(target)
    except (OSError, ValueError):
        return False
    standard = "-" in (source, target)
    return os.path.samestat(first, second) and (stat.S_ISREG(first.st_mode) or not standard)


def _is_inside(path: str, folder: str) -> bool:
    place = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    return f"{place}/".startswith(f"{os.path.realpath(folder).rstrip('/')}/")


def _size_of(source: str) -> int | None:
    """Return the size of a regular file, None for what has none."""
    try:
        facts = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
    except (OSError, ValueError):
        return None
    return facts.st_size if source != "-" and stat.S_ISREG(facts.st_mode) else None


def _cores() -> int:
    return min(_DEFAULT_THREADS_MAX, len(os.sched_getaffinity(0)))
