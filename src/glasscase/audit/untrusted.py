"""Looking into parsed files whose values may be of any type."""

from typing import Any


def table(value: Any, key: str) -> dict[str, Any]:
    """Return the table under a key, or an empty one."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def length(value: Any) -> int | None:
    """Return how many entries a list has, or None for anything else."""
    return len(value) if isinstance(value, list) else None
