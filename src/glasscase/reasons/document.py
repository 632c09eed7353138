"""docs/checks.md from the table in the code: `./dev docs` writes it, a test compares it."""

import sys
from itertools import groupby

from glasscase.reasons.stricter import EXCEPTIONS
from glasscase.reasons.table import reasons

HEAD = """# Checks and reasons

Every check of the verifier and every reason of an error, in the fixed order of the code. This file is made from the table
in `src/glasscase/reasons` (`./dev docs`); a test fails when the two differ. `glasscase explain ID` prints one of them.

Kinds: a failed `proof` check makes a verdict failed, a failed `basis` check makes it undetermined unless a proof check
failed too. `format` errors end with exit code 2, `undetermined` with 3, `usage` with 1, `storage` and `state` with 4,
`interrupted` with 5.

[faults.md](faults.md) is the table of named faults: for each check those that must make it fail first, every one run by the tests.
"""


def stricter() -> str:
    """Return the section on what Intel's library accepts and these checks do not."""
    rows = [f"| {e.what} | `{e.check}` | {e.why} |" for e in EXCEPTIONS]
    forms = (
        "In signed documents, strings are printable ASCII without escapes, numbers are integers of 53 bits, no key comes "
        "twice and nothing is nested deeper than 8; QE levels are listed strictly descending. An advisory has 1 to 64 "
        "characters, an object at most 64 keys, a document at most 1,024 levels, 16,384 advisories and 1 MiB."
    )
    return "\n".join(
        [
            "## Stricter than Intel on real evidence",
            "",
            "| what | check | why |",
            "| --- | --- | --- |",
            *rows,
            "",
            forms,
            "",
        ]
    )


def document() -> str:
    """Return the text of docs/checks.md."""
    parts = [HEAD, stricter()]
    for area, group in groupby(reasons().values(), key=lambda reason: reason.id.partition(".")[0]):
        rows = [f"| `{r.id}` | {r.kind} | {r.message} | {r.source} | {r.remedy} |" for r in group]
        parts.append(
            "\n".join(
                [
                    f"## {area}",
                    "",
                    "| id | kind | meaning | source | remedy |",
                    "| --- | --- | --- | --- | --- |",
                    *rows,
                    "",
                ]
            )
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
