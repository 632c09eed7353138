"""The process that loads Intel's library: one question on standard input, one answer on standard output.

Invariants: started by verify.intel only, with an empty environment; memory, CPU time and core dumps are limited before the
library is loaded; it opens no socket (the library fetches only what it is not given, and it is given everything).
"""

import json
import resource
import sys

from glasscase.core import intel

MEMORY_MAX = 1 << 30  # bytes of address space
CPU_MAX = 20  # seconds
QUESTION_MAX = 64 * 1024 * 1024  # bytes


def main() -> None:
    """Answer the question: {candidates, quote?, items?, at?, supplemental?} -> {library, answer?}."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX, CPU_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    question = json.loads(sys.stdin.buffer.read(QUESTION_MAX))
    answer: dict[str, object] = {"library": None}
    for path in question["candidates"]:
        library = intel.load(path)
        if library is not None:
            answer["library"] = path
            if "quote" in question:
                answer["answer"] = intel.ask(
                    library,
                    bytes.fromhex(question["quote"]),
                    question["items"],
                    at=question["at"],
                    supplemental=question["supplemental"],
                )
            break
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
