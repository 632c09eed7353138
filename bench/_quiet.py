"""Times of many runs, of which only those count during which the machine was quiet.

A run is quiet if both cores were free just before and just after it (two threads that hash need no longer than they ever did)
and if nobody else used the processors meanwhile (the machine's ticks without those of the run). A disturbed run is thrown
away and repeated a few times; how many were is part of the report, and a name with too few quiet runs has no figure at all.
"""

import hashlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SPREAD = 1.15  # slowest over fastest spin
OTHERS = 0.08  # of the processors' time, used by others during a run
TICK = 0.02  # seconds; what the machine's ticks may be off at both ends
TRIES = 4  # of one run
_PROBE = bytes(16 << 20)


def spin() -> float:
    """Return the seconds that two threads need to hash 16 MiB each, which is what one needs if both cores are free.

    Each is bound to a core of its own: two threads of ten milliseconds may otherwise share one while the other is idle.
    """

    def probe(core: int) -> None:
        os.sched_setaffinity(0, {core})  # of this thread
        hashlib.sha256(_PROBE)

    cores = sorted(os.sched_getaffinity(0))
    others = [threading.Thread(target=probe, args=(cores[number % len(cores)],)) for number in range(2)]
    begin = time.perf_counter()
    for other in others:
        other.start()
    for other in others:
        other.join()
    return time.perf_counter() - begin


def busy() -> float:
    """Return the seconds that all processors have worked, or were taken away by the host, since the machine started."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").split("\n")[0].split()[1:9]]
    user, nice, system, _idle, _wait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Clock:
    """Wall and CPU seconds of every quiet run, by name. keep: also those of runs that were disturbed."""

    def __init__(self, *, keep: bool) -> None:
        self.runs: dict[str, list[tuple[float, float]]] = {}
        self.total = self.disturbed = 0
        self.keep = keep
        self._fastest = min(spin() for _ in range(20))

    def run(self, name: str, work: Callable[[], tuple[float, float] | None], *, output: Path | None = None) -> bool:
        """Time `work`, which may bring its own two numbers; return whether a quiet run was had.

        Giving back the memory of an old output is not its work.
        """
        for _ in range(TRIES):
            if output is not None:
                output.unlink(missing_ok=True)
            first = min(spin(), spin())  # what giving back memory leaves behind ends within the first of two
            machine, before, begin = busy(), os.times(), time.perf_counter()
            own = work()
            wall, after, machine = time.perf_counter() - begin, os.times(), busy() - machine
            cpu = sum(after[:4]) - sum(before[:4])
            others = machine - cpu - (own[1] if own else 0.0)
            second = min(spin(), spin())
            self._fastest = min(self._fastest, first, second)
            quiet = (
                max(first, second) <= self._fastest * SPREAD and others <= wall * OTHERS * (os.cpu_count() or 1) + TICK
            )
            self.total, self.disturbed = self.total + 1, self.disturbed + (not quiet)
            if quiet or self.keep:
                self.runs.setdefault(name, []).append(own or (wall, cpu))
                return quiet
        return False

    def lacking(self, names: Iterable[str], least: int) -> list[str]:
        """Return which of the names have fewer than `least` quiet runs."""
        return [name for name in names if len(self.runs.get(name, ())) < least]

    def wall(self, name: str) -> float:
        """Return the median of the wall times."""
        return statistics.median(run[0] for run in self.runs[name])

    def cpu(self, name: str) -> float:
        """Return the smallest CPU time, which other work on the machine disturbs least."""
        return min(run[1] for run in self.runs[name])

    def __str__(self) -> str:
        return f"{self.disturbed} of {self.total} runs were disturbed and {'kept' if self.keep else 'thrown away'}"
