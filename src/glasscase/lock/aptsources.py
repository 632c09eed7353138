"""Where Debian packages come from: the project's apt lines, else the apt sources of this host.

Invariants: every source is signed by one keyring; sources of other signers, sources of source packages and options that
weaken apt are not taken.
Source: sources.list(5).
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glasscase.codec.printable import without_logins
from glasscase.errors import UsageError
from glasscase.fs.atomic import read_file

FILE_MAX = 1 << 20  # bytes
ARCHIVE_KEYRINGS = (
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
)
_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>[a-z]+:\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)")
_URI = re.compile(r"(https?|file)://?\S+")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


@dataclass(frozen=True)
class AptSource:
    """One suite of one archive. components: at least one."""

    uri: str
    suite: str
    components: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what could mean something else in a sources file."""
        words = (self.suite, *self.components)
        if not _URI.fullmatch(self.uri) or not self.components or not all(_WORD.fullmatch(word) for word in words):
            raise UsageError(
                "lock.debian.sources",
                f"{without_logins(self.uri)!r} {self.suite!r} is not a source of packages that is taken",
            )

    def line(self, keyring: str) -> str:
        """Return the line for a sources.list of our own."""
        return f"deb [arch=amd64 signed-by={keyring}] {self.uri} {self.suite} {' '.join(self.components)}\n"


def parse_lines(lines: Iterable[str]) -> tuple[AptSource, ...]:
    """Return the sources of `deb ...` lines; options in brackets are not taken from a project.

    Raises UsageError("lock.debian.sources") for anything else.
    """
    found = []
    for line in lines:
        match = _LINE.fullmatch(line.strip())
        if match is None or match["options"] is not None:
            raise UsageError(
                "lock.debian.sources", f"{without_logins(line)!r} is not a line like: deb URI SUITE COMPONENT...",
                hint="options in brackets are not taken; the keyring stands in sources.keyring",
            )  # fmt: skip
        found.append(AptSource(match["uri"], match["suite"], tuple(match["components"].split())))
    return tuple(found)


def host_sources(etc: str = "/etc/apt") -> tuple[tuple[AptSource, ...], str]:
    """Return the sources of this host that its distribution's archive keyring signs, and that keyring's path.

    Raises UsageError("lock.debian.sources") if there is no keyring or no such source.
    """
    keyring = next((path for path in ARCHIVE_KEYRINGS if os.path.isfile(path)), None)
    found: list[AptSource] = []
    parts = os.path.join(etc, "sources.list.d")
    names = sorted(os.listdir(parts)) if os.path.isdir(parts) else []
    if keyring is not None:
        files = [os.path.join(etc, "sources.list"), *(os.path.join(parts, name) for name in names)]
        for path in files:
            if os.path.isfile(path) and path.endswith((".list", ".sources")):
                text = read_file(path, max_bytes=FILE_MAX, what="apt sources").decode("utf-8", "replace")
                found += _stanzas(text, keyring) if path.endswith(".sources") else _old_style(text, keyring)
    if keyring is None or not found:
        raise UsageError(
            "lock.debian.sources", "this host has no apt sources that a Debian archive keyring signs",
            hint='write [sources] apt = ["deb URI SUITE main"] and keyring = "FILE" into glasscase.toml',
        )  # fmt: skip
    return tuple(dict.fromkeys(found)), keyring


def _old_style(text: str, keyring: str) -> list[AptSource]:
    found = []
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is not None and _acceptable(_options(match["options"] or ""), keyring):
            found.append(AptSource(match["uri"], match["suite"], tuple(match["components"].split())))
    return found


def _options(text: str) -> dict[str, str]:
    return {key.lower(): value for key, _, value in (item.partition("=") for item in text.split())}


def _acceptable(options: dict[str, str], keyring: str) -> bool:
    """Return whether the keyring signs the source (or nothing else is named) and it has no option that weakens apt."""
    signed = options.get("signed-by", "")
    weak = any(options.get(name, "no").lower() != "no" for name in ("trusted", "allow-insecure", "allow-weak"))
    same = not signed or os.path.splitext(signed)[0] == os.path.splitext(keyring)[0]
    arches = re.split(r"[\s,]+", options.get("arch", options.get("architectures", "amd64")))
    return same and not weak and "amd64" in arches


def _stanzas(text: str, keyring: str) -> list[AptSource]:
    found = []
    for stanza in parse_stanzas(text):
        types = stanza.get("types", "").split()
        enabled = stanza.get("enabled", "yes").strip().lower() in ("yes", "true", "on", "1")
        if "deb" in types and enabled and _acceptable({key: value.strip() for key, value in stanza.items()}, keyring):
            for uri in stanza.get("uris", "").split():
                for suite in stanza.get("suites", "").split():
                    found.append(AptSource(uri, suite, tuple(stanza.get("components", "").split())))
    return found


def parse_stanzas(text: str) -> list[dict[str, str]]:
    """Return the stanzas of a deb822 document; keys in lower case, continuation lines joined with newlines."""
    found: list[dict[str, str]] = []
    current: dict[str, str] = {}
    key = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            found += [current] if current else []
            current, key = {}, ""
        elif line[0] in " \t":
            current[key] = current.get(key, "") + "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            key = key.strip().lower()
            current[key] = value.strip()
    return found


def bases(sources: Sequence[AptSource]) -> tuple[str, ...]:
    """Return the archives' base URLs, each once, in order."""
    return tuple(dict.fromkeys(source.uri.rstrip("/") for source in sources))
