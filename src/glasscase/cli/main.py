"""The command line: a table of verbs, loaded only when called, and the one place where errors become exit codes.

Invariants: no traceback for a foreseeable cause; every error is one line with its id, and a hint if there is a next step.
"""

import contextlib
import importlib
import io
import os
import resource
import select
import signal
import sys
from typing import Any

import click

from glasscase import __version__
from glasscase.cli import exitcodes
from glasscase.cli.failing import report_error
from glasscase.cli.output import SAID
from glasscase.errors import Error, Interrupted, StorageError, UsageError

click.UsageError.exit_code = exitcodes.USAGE
CORE = ("glasscase._native", "_native")  # as Python names it where it is missing, and where it does not load
COMPLETE = "_GLASSCASE_COMPLETE"  # set by the scripts of `completion`; what it asks for is printed, nothing is run

# verb: (who uses it, module:command, one line)
VERBS: dict[str, tuple[str, str, str]] = {}


def _table(role: str, module: str, **verbs: str) -> None:
    for name, line in verbs.items():
        VERBS[name.rstrip("_")] = (role, f"glasscase.cli.{module}:{name}", line)


_PROVIDER = "code provider"
_OPERATOR = "operator"
_AUDITOR = "auditor"
_USER = "data user"
_EVERYONE = "everyone"

_table(_PROVIDER, "project", init="Make a new project.", test="Run the project's tests against the enclave.")
_table(_PROVIDER, "keys", keygen="Make a package, owner or enclave key.")
_table(_PROVIDER, "locking", lock="Pin every input by SHA-256.")
_table(_PROVIDER, "runtimes", runtime="Import a Gramine runtime and show the known ones.")
_table(_PROVIDER, "building", build="Build the bundle and print its MRENCLAVE.")
_table(_PROVIDER, "measuring", measure="Recompute MRENCLAVE from bytes.", sign="Sign the enclave (SIGSTRUCT).")
_table(_PROVIDER, "crypting", encrypt="Encrypt a file or directory.", decrypt="Decrypt a file or directory.")
_table(_PROVIDER, "crypting", disclose="Write the opening of the code commitment for an auditor.")
_table(_PROVIDER, "sealing", seal="Verify an enclave, then seal secrets to it.")
_table(_PROVIDER, "verifying", policy="Write a strict policy file for a bundle.")
_table(
    _PROVIDER,
    "transport",
    export="Write a bundle as tar or OCI image layout.",
    import_="Read a bundle from tar or OCI.",
)
_table(_OPERATOR, "operating", run="Start the enclave of a bundle.")
_table(_OPERATOR, "evidencing", provision="Hand sealed secrets to an enclave.")
_table(_OPERATOR, "operating", status="Show the state of enclaves.", logs="Show the log of an enclave.")
_table(_OPERATOR, "operating", stop="Stop an enclave.", restart="Stop and start an enclave again.")
_table(_OPERATOR, "evidencing", evidence="Collect quote, claims and collateral in one file.")
_table(_OPERATOR, "doctoring", doctor="Say what this machine has and lacks.")
_table(_AUDITOR, "inspecting", inspect="Show what a file is and says, without trust.")
_table(_AUDITOR, "verifying", verify="Judge evidence or a quote under a policy.")
_table(_AUDITOR, "explaining", explain="Explain a check or reason id.")
_table(_AUDITOR, "reproducing", reproduce="Build again from source and compare.")
_table(_AUDITOR, "comparing", why="Say why two measurements differ.", map="Draw the memory of an enclave.")
_table(_AUDITOR, "reporting", report="Write the auditor's report.")
_table(
    _AUDITOR, "stating", attest="Sign a statement about evidence or a rebuild.", ledger="Keep the ledger of releases."
)
_table(_USER, "connecting", get="Fetch a URL from a verified enclave.", proxy="Local port to a verified enclave.")
_table(_EVERYONE, "demonstrating", demo="Run the whole flow on the simulator.")
_table(_EVERYONE, "collaterals", collateral="Fetch and show Intel's collateral.")
_table(_EVERYONE, "collaterals", tcb="Say where a platform stands against Intel's data set.")
_table(_EVERYONE, "completing", completion="Write the completion script of a shell.")
_table(_EVERYONE, "versioning", version="Show versions, libcrypto and engines.")


class _Verbs(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the verb; raises UsageError that names similar ones for a word that is none."""
        if args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=3)
            hint = f"did you mean {' or '.join(near)}? all verbs: glasscase --help" if near else "glasscase --help"
            raise UsageError("cli.usage.wrong", f"there is no verb {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][1].partition(":")
        try:
            loaded = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            return _unavailable(cmd_name)
        command = getattr(loaded, attribute, None)
        return command if isinstance(command, click.Command) else _unavailable(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for role in dict.fromkeys(entry[0] for entry in VERBS.values()):
            rows = [(name, entry[2]) for name, entry in VERBS.items() if entry[0] == role]
            with formatter.section(role):
                formatter.write_dl(rows)


def _unavailable(name: str) -> click.Command:
    from glasscase.cli.output import Output, verb

    @verb(name, help="Not available in this version.", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1)
    def command(out: Output, arguments: tuple[str, ...]) -> int:  # noqa: ARG001
        raise UsageError("cli.verb.unavailable", f"{name} is not available in this version", hint="see CHANGELOG.md")

    return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="glasscase")
def cli() -> None:
    """Reproducible, verifiable SGX enclaves for Python web applications.

    Where a file is read, `-` is standard input; after -o, `-` is standard output for evidence, envelopes, statements and pages.
    Results go to stdout, words to stderr; --json writes one object.

    Exit codes: 0 done or verified, 1 usage, 2 verification failed or input not authentic, 3 cannot verify, 4 I/O,
    5 interrupted, 6 differs.
    """


def _terminate(number: int, _frame: Any) -> None:
    # no Error: there are many who take those for an answer, and go on
    raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")


def _no_core_dumps() -> None:
    """Keys are in memory, so this process and its children leave no core file.

    A limit of one byte, unlike zero, also stops the kernel from piping the core to a crash reporter.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def run(arguments: list[str]) -> int:
    """Return the exit code of one command line; never raises for a foreseeable cause."""
    context: click.Context | None = None

    def failed(error: Error) -> int:
        told = context is not None and SAID in context.meta  # --json is one object, also of a verb that ends later
        return report_error(error, as_json="--json" in arguments and not told)

    _no_core_dumps()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a closed terminal is an end too; nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)
    try:
        # completion scripts give no arguments; with some, no environment may take the place of the verb
        completing = None if arguments else os.environ.get(COMPLETE)
        if completing:
            from click.shell_completion import shell_complete

            return shell_complete(cli, {}, "glasscase", COMPLETE, completing)
        with cli.make_context("glasscase", list(arguments)) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exitcodes.OK if stop.code is None else exitcodes.USAGE
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.Abort:
        return failed(Interrupted("cli.signal.received", "interrupted"))
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(error.format_message() + "\n")
        return exitcodes.USAGE
    except click.ClickException as error:
        return failed(_usage(error))
    except Error as error:
        return failed(error)
    except KeyboardInterrupt as error:
        return failed(Interrupted("cli.signal.received", str(error) or "interrupted"))
    except MemoryError:
        return failed(StorageError("core.memory.exhausted", "memory could not be allocated"))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exitcodes.INTERRUPTED
    except ImportError as error:
        if error.name not in CORE:
            raise
        return failed(StorageError("core.library.unloadable", f"the C core cannot be loaded: {error}"))
    except OSError as error:
        from glasscase.fs.atomic import storage_error

        return failed(storage_error(error, error.filename or "stdout"))
    return exitcodes.OK


def _usage(error: click.ClickException) -> Error:
    """Return click's complaint as one line of ours, after the verb's usage line."""
    where = getattr(error, "ctx", None)
    if where is not None:
        sys.stderr.write(where.get_usage() + "\n")
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace("is not a valid integer range", "is not a whole number")  # click's name of the type
    command = "glasscase" if where is None else where.command_path
    return UsageError("cli.usage.wrong", message[:1].lower() + message[1:], hint=f"{command} --help")


class _Talk(io.FileIO):
    """Standard error. What cannot be written of it is lost: words change no exit code."""

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError:
            return size
        return size if written is None else written  # None: it does not block, and is full


class _Waiting(io.RawIOBase):
    """Standard input, also where whoever shares it has made it one that does not wait: nothing there yet is no end."""

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return os.readv(0, (buffer,))
            except BlockingIOError:
                waiter = select.poll()
                waiter.register(0, select.POLLIN)
                waiter.poll()
            except OSError as error:
                raise OSError(error.errno, error.strerror, "stdin") from None

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return os.isatty(0)


def _open_standard_streams() -> None:
    """Open what the caller closed: stdin then gives no byte and no end, stdout takes none, stderr takes all and shows none.

    Without this the next file opened would take the place, and words meant for people would go into it. A stderr that
    cannot be written (a full disk, a reader that has gone) takes all too.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(_Waiting()), encoding="utf-8", errors="surrogateescape")
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    encoding = sys.stderr.encoding if sys.stderr else None
    talk = io.BufferedWriter(_Talk(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(talk, encoding=encoding, errors="backslashreplace", line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show does not end the run


def main() -> None:
    """Run the command line of this process and exit."""
    _open_standard_streams()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # what could not be written stays in the buffer and would end Python with 120
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or exitcodes.IO
    sys.exit(code)
