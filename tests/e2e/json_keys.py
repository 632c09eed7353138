"""The keys that docs/json.md names: for each verb, and for each kind of file that inspect knows."""

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
VERBS, KINDS = TEXT.split("## Kinds of inspect")


def keys_by_name(text):
    """Return the keys that a table gives for each verb or kind, those with ? apart: {name: (always, sometimes)}."""
    found = {}
    for names, cell in re.findall(r"^\| (`.*?) \| (.*) \|$", text, re.MULTILINE):
        always, sometimes = set(), set()
        for like in re.findall(r"as `([A-Za-z ]+)`", re.sub(r"\([^)]*\)", "", cell)):
            always |= found[like][0]
            sometimes |= found[like][1]
        outer = re.sub(r"\([^)]*\)|as `[A-Za-z ]+`|those of `[A-Z a-z]+`|or `name`.*", "", cell)
        for name in re.findall(r"`([A-Za-z0-9_]+\??)`", outer):
            (sometimes if name.endswith("?") else always).add(name.rstrip("?"))
        for one in re.findall(r"`([A-Za-z -]+)`", names):
            found[one] = (always, sometimes)
    return found


KEYS = keys_by_name(VERBS)
KEYS_OF_KIND = keys_by_name(KINDS)


def compare(verb, value):
    """Assert that an object has the keys of the page."""
    always, sometimes = KEYS[verb]

    assert always <= set(value) <= always | sometimes, verb
    assert value.get("simulated", True) is True, (
        verb
    )  # as all is here; a verb that judges under another root has to say it


def compare_kind(value):
    """Assert that what inspect says of a file has the keys of its kind."""
    always, sometimes = KEYS_OF_KIND[value["kind"]]

    assert always <= set(value) - {"kind"} <= always | sometimes, value["kind"]
