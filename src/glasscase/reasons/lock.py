"""Ids of the area `lock`: glasscase.lock and the inputs it pins."""

from glasscase.reasons.model import Reason

_FORMAT = "docs/bundle-format.md"

REASONS: tuple[Reason, ...] = (
    Reason("lock.file.malformed", "format", "glasscase.lock breaks a rule of its format", _FORMAT, "run: glasscase lock"),
    Reason("lock.file.noncanonical", "format", "glasscase.lock is not in the one spelling that is hashed", _FORMAT,
           "do not edit it; run: glasscase lock"),
    Reason("lock.file.missing", "usage", "the project has no glasscase.lock yet", _FORMAT, "run: glasscase lock"),
    Reason("lock.file.stale", "usage", "the lock does not belong to the project as it is now", _FORMAT, "run: glasscase lock"),
    Reason("lock.requirements.refused", "usage", "the requirements hold something that cannot be pinned through an index",
           _FORMAT, "write lines of a name and versions; no options, URLs or paths"),
    Reason("lock.resolver.missing", "storage", "neither uv nor pip is installed", _FORMAT, "pip install uv"),
    Reason("lock.resolver.unfit", "usage", "pip cannot choose wheels for another Python than its own", _FORMAT,
           "pip install uv"),
    Reason("lock.resolver.failed", "basis", "the resolver could not be run", _FORMAT, "run it by hand and look"),
    Reason("lock.resolver.refused", "usage", "there is no set of binary wheels for these requirements", _FORMAT,
           "read what the resolver says; only wheels are taken"),
    Reason("lock.pylock.refused", "usage", "a package has no wheel from the index with a SHA-256", _FORMAT,
           "no source distributions, direct URLs or repositories can be locked"),
    Reason("lock.wheel.editable", "usage", "glasscase runs from its sources, so there is no wheel to pin", _FORMAT,
           "build a wheel and name it: glasscase lock --wheel FILE"),
    Reason("lock.wheel.missing", "usage", "glasscase's own wheel is not known", _FORMAT,
           "name it: glasscase lock --wheel FILE"),
    Reason("lock.wheel.malformed", "format", "the file is not a wheel of glasscase", _FORMAT, "check the path"),
    Reason("lock.fetch.failed", "basis", "an input could not be fetched", _FORMAT, "check the network and the index"),
    Reason("lock.input.missing", "storage", "a pinned input is not in the cache", _FORMAT, "run: glasscase lock"),
    Reason("lock.input.mismatch", "format", "an input has another SHA-256 than the lock pins", _FORMAT,
           "do not build; find out who changed it"),
    Reason("lock.input.oversize", "format", "an input is longer than it may be", _FORMAT, "check the index"),
    Reason("lock.input.gone", "basis", "the index no longer has the pinned file", _FORMAT,
           "get the file from an archive, or lock again with --update"),
)  # fmt: skip
