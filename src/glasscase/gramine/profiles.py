"""What differs between releases of Gramine in the text of a manifest; the memory layout is the same in all of them.

Invariants: profiles are data that comes with this program; a name that is not known is refused.
Source: reproducible/runtime/profiles/; docs/bundle-format.md, "Profiles".
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from glasscase.errors import FormatError

DEFAULT = "v1.8"
_PACKAGED = re.compile(r"[-~+].*")  # what a distribution adds to the version of a release


@dataclass(frozen=True)
class Profile:
    """How one series of releases writes manifests.

    entrypoint_table: loader.entrypoint is a table of uri and sha256, else a URI that is a trusted file too.
    cpu_features: sgx.cpu_features and use_exinfo, else sgx.require_*. uris_normalised: trusted URIs written by hand are
    rewritten. bundles: a bundle may be built for it. layout: the constants of the memory layout, by name.
    """

    name: str
    releases: tuple[str, ...]
    entrypoint_table: bool
    cpu_features: bool
    uris_normalised: bool
    bundles: bool
    layout: tuple[tuple[str, int], ...]


def profile(name: str) -> Profile:
    """Return the profile of a name; raises FormatError("gramine.profile.unknown")."""
    for known in known_profiles():
        if known.name == name:
            return known
    names = ", ".join(known.name for known in known_profiles())
    raise FormatError("gramine.profile.unknown", f"the profile {name!r} is not known, these are: {names}")


def profile_of_release(version: str) -> Profile:
    """Return the profile of a Gramine version like "1.9", "1.8.1" or, of a package, "1.9-2" or "1.9~bookworm".

    Raises FormatError("gramine.profile.unknown").
    """
    upstream = _PACKAGED.sub("", version)
    for known in known_profiles():
        if any(upstream == release or upstream.startswith(release + ".") for release in known.releases):
            return known
    raise FormatError(
        "gramine.profile.unknown",
        f"how Gramine {version!r} writes manifests is not known",
        hint="a later release that writes as 1.9 does: give its profile, v1.8",
    )


@cache
def known_profiles() -> tuple[Profile, ...]:
    """Return the profiles, oldest first."""
    import importlib.resources  # costs 7 ms, and most measurements need no profile

    folder = importlib.resources.files("glasscase") / "_pins" / "runtime" / "profiles"
    entries = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".toml")), key=lambda entry: entry.name
    )
    return tuple(_read(tomllib.loads(entry.read_text(encoding="utf-8"))) for entry in entries)


def _read(value: dict[str, Any]) -> Profile:
    manifest = value["manifest"]
    return Profile(
        name=value["name"],
        releases=tuple(value["releases"]),
        entrypoint_table=manifest["entrypoint"] == "table",
        cpu_features=manifest["features"] == "cpu_features",
        uris_normalised=manifest["uris"] == "normalised",
        bundles=value["bundles"],
        layout=tuple(value["layout"].items()),
    )
