"""What every check id and reason id says of itself.

Invariants: ids are unique over all areas; each has a message, a source and a remedy.
"""

from typing import NamedTuple

KINDS = ("proof", "basis", "format", "undetermined", "usage", "storage", "state", "interrupted")


class Reason(NamedTuple):
    """One id, `area.subject.fault`.

    kind: `proof` and `basis` are checks of the verifier (a failed one makes a verdict failed or undetermined); the others
    say which error class carries it. message: what it means when it is seen. source: the rule or document it comes from.
    remedy: what a person does next.
    """

    id: str
    kind: str
    message: str
    source: str
    remedy: str
