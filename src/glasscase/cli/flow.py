"""A row of glasscase commands in a directory of its own, each a process as a person would start it.

Invariants: what the commands write stays below one temporary directory, but for the cache of fetched inputs; when the block
ends, however it ends, no process and no file of it is left, also if this process is killed.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glasscase.cli.ending import ended, with_parent
from glasscase.cli.output import Output, escape
from glasscase.errors import Error, StorageError
from glasscase.fs.child import module_command

STEP_S = 900  # seconds after which a command counts as hanging


@dataclass(frozen=True)
class Step:
    """One command that was run: what it is called, how long it took, whether it did what it had to."""

    name: str
    seconds: float
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """Return the object that `demo --json` shows."""
        return {"name": self.name, "seconds": round(self.seconds, 3), "ok": self.ok}


class StepFailed(Error):  # noqa: N818 - what happened, in the words of the flow
    """A command did not end as it had to. exit_code: that of the command."""

    def __init__(self, name: str, code: int, text: str) -> None:
        super().__init__(
            "cli.step.failed", f"the step {name} ended with {code}: {text}", hint="the lines above say why"
        )
        self.exit_code = code or 4


@dataclass
class Flow:
    """The commands of one flow. directory: where all files are. steps: what was run so far.

    steps_are_result: the line of each step goes to stdout, unless that is for JSON.
    """

    directory: Path
    out: Output
    environment: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    steps_are_result: bool = False

    def run(self, name: str, *commands: tuple[str, ...], expect: int = 0, note: str = "") -> dict[str, Any]:
        """Return the JSON of the last of the commands, all of which must end with `expect`; one step.

        note: a key of that JSON to show, or words. Raises StepFailed.
        """
        started = time.monotonic()
        value: dict[str, Any] = {}
        for command in commands:
            done = self._call(command)
            value = self._json(done.stdout)
            if done.returncode != expect:
                self._finish(name, started, ok=False)
                # the instances go with the directory, and show_logs gives what they wrote
                sys.stderr.write(re.sub(r"(?m)^glasscase: hint: glasscase logs .*\n", "", done.stderr))
                message = (
                    value.get("error", {}).get("message", "no message") if isinstance(value.get("error"), dict) else ""
                )
                raise StepFailed(name, done.returncode, message)
        shown = str(value.get(note, note))
        if expect:
            shown = f"refused, exit {expect} [{reason_of(value)}]"
        self._finish(name, started, ok=True, note=shown)
        return value

    @contextlib.contextmanager
    def started(self, name: str, *command: str) -> Iterator[dict[str, Any]]:
        """Give the JSON that a command writes before it goes on running; it is ended with the block.

        Raises StepFailed, with what it said on stderr, if it ends before.
        """
        talk = self.directory / f"{name}.stderr"
        with open(talk, "wb") as stderr:
            process = subprocess.Popen(
                self._argv(command), cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8", preexec_fn=with_parent(),  # noqa: PLW1509 - no threads here
            )  # fmt: skip
        try:
            text = ""
            while process.stdout is not None and (line := process.stdout.readline()):
                text += line
                if line.startswith("}"):
                    break
            value = self._json(text)
            if not value or "error" in value:
                sys.stderr.write(talk.read_text(encoding="utf-8", errors="backslashreplace"))
                raise StepFailed(name, process.wait(STEP_S), "it ended before it was ready")
            yield value
        finally:
            process.terminate()
            process.communicate(timeout=STEP_S)

    def _argv(self, command: tuple[str, ...]) -> list[str]:
        return module_command("glasscase", *command, "--json")

    def _call(self, command: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
        if command[0] == "run":
            self.names.append(command[command.index("--name") + 1])
        try:
            return subprocess.run(
                self._argv(command), cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, encoding="utf-8", errors="backslashreplace", timeout=STEP_S, check=False,
                preexec_fn=with_parent(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise StepFailed(command[0], 4, f"no end after {STEP_S} seconds") from None

    @staticmethod
    def _json(text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def _finish(self, name: str, started: float, *, ok: bool, note: str = "") -> None:
        step = Step(name, time.monotonic() - started, ok)
        self.steps.append(step)
        mark = self.out.paint("ok  ", "green") if ok else self.out.paint("FAIL", "red")
        line = f"{mark}  {name:<26} {step.seconds:6.1f} s  {note}".rstrip()
        if self.steps_are_result and not self.out.json:
            self.out.result({}, line)
        else:
            self.out.say(line)

    def show_logs(self) -> None:
        """Say what the started instances wrote: their logs go with the directory."""
        for name in self.names:
            lines = self._json(self._call(("logs", name)).stdout).get("lines", [])
            self.out.say("\n".join(f"log   {escape(str(line))}" for line in lines))


def reason_of(value: dict[str, Any]) -> str:
    """Return the id that an answer gives for a refusal: of its error, or the first failed check."""
    if isinstance(value.get("error"), dict):
        return str(value["error"].get("id", ""))
    failed = value.get("failed")
    return str(failed[0]) if isinstance(failed, list) and failed else "no reason given"


@contextlib.contextmanager
def temporary_flow(out: Output) -> Iterator[Flow]:
    """Give a flow in a new temporary directory, which is removed with everything in it; its instances are stopped.

    It has the cache and the imported runtimes of this user, and nothing else of his.
    """
    from glasscase.cli.places import cache_dir, data_dir_if_any

    try:
        base = Path(tempfile.mkdtemp(prefix="glasscase-"))
    except OSError as error:
        raise StorageError(
            "fs.file.failed", f"no temporary directory: {error.strerror or error}", errno=error.errno
        ) from None
    try:
        work = base / "work"
        work.mkdir()
        environment = {
            **os.environ,
            "GLASSCASE_STATE": str(base / "state"),
            "GLASSCASE_DATA": str(base / "data"),
        }
        (base / "data").mkdir(mode=0o700)
        try:
            environment["GLASSCASE_CACHE"] = str(cache_dir())
            data = data_dir_if_any()
            if data is not None and (data / "runtimes").is_dir():
                (base / "data" / "runtimes").symlink_to(data / "runtimes")
        except Error:
            environment["GLASSCASE_CACHE"] = str(base / "cache")
        with ended(base):
            yield Flow(work, out, environment)
    finally:
        shutil.rmtree(base, ignore_errors=True)
