"""Ids of the area `fs`: files and directories."""

from glasscase.reasons.model import Reason

_RULE = "README.md, exit codes"

REASONS: tuple[Reason, ...] = (
    Reason("fs.file.missing", "storage", "the file or directory does not exist", _RULE, "check the path"),
    Reason("fs.file.denied", "storage", "the system refuses access", _RULE, "check owner and mode of the path"),
    Reason("fs.file.full", "storage", "the disk or the quota is full", _RULE,
           "make room; the unfinished output has been removed"),
    Reason("fs.file.failed", "storage", "the system could not read or write", _RULE,
           "look at the system's message; the unfinished output has been removed"),
    Reason("fs.file.oversize", "format", "the input is longer than its kind may be", _RULE,
           "check that the right file was given"),
    Reason("fs.output.exists", "usage", "the output exists already and is not overwritten", _RULE,
           "choose another name or remove it first"),
    Reason("fs.key.exposed", "usage", "a key file can be read by others than its owner", _RULE, "chmod 600 FILE"),
)  # fmt: skip
