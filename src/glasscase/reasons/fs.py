"""Ids of the area `fs`: files and directories."""

from glasscase.reasons.model import Reason

_RULE = "README.md, exit codes"

REASONS: tuple[Reason, ...] = (
    Reason("fs.file.missing", "storage", "the file or directory does not exist", _RULE, "check the path"),
    Reason("fs.file.denied", "storage", "the system refuses access", _RULE, "check owner and mode of the path"),
    Reason("fs.file.full", "storage", "the disk or the quota is full", _RULE,
           "make room; nothing was left of an unfinished output"),
    Reason("fs.file.failed", "storage", "the system could not read or write", _RULE,
           "the system's message says why; nothing was left of an unfinished output"),
    Reason("fs.file.oversize", "format", "the input is longer than its kind may be", _RULE,
           "check that the right file was given"),
    Reason("fs.output.exists", "usage", "the output exists already and is not overwritten", _RULE,
           "choose another name or remove it first"),
    Reason("fs.output.special", "usage", "the output is a device, FIFO or socket, whose place a file would take", _RULE,
           "name a file, or - for stdout where the verb can write there"),
    Reason("fs.output.key", "usage", "the output has the name of a secret key, which is never overwritten", _RULE,
           "choose another name, or remove the key first"),
    Reason("fs.path.refused", "format", "a path is not relative, NFC, free of control characters and short enough",
           "docs/bundle-format.md", "rename the file"),
    Reason("fs.path.unsuitable", "usage", "a path that has to be written down is not plain text", _RULE,
           "move the bundle to another path"),
    Reason("fs.path.clash", "format", "two names are one where case is folded", "docs/bundle-format.md",
           "rename one of the two"),
    Reason("fs.entry.refused", "usage", "a link, device, FIFO, socket, setuid file or hard link stands where files are taken",
           "docs/bundle-format.md", "replace it by a plain copy or remove it"),
    Reason("fs.entry.changed", "usage", "a file changed while it was read", "docs/bundle-format.md",
           "run again when nothing writes there"),
    Reason("fs.archive.malformed", "format", "the archive is not a canonical tar", "docs/bundle-format.md",
           "only what export writes is taken; get it again"),
    Reason("fs.archive.oversize", "format", "the archive holds more than is allowed", "docs/bundle-format.md",
           "check where it comes from"),
    Reason("fs.directory.shared", "storage", "a directory for glasscase's own files is open to others and holds other things", _RULE,
           "name another directory, or chmod 700 this one"),
    Reason("fs.key.exposed", "usage", "a key file can be read by others than its owner", _RULE, "chmod 600 FILE"),
    Reason("fs.deb.malformed", "format", "the file is not a Debian package that can be read", "deb(5)",
           "download it again"),
    Reason("fs.deb.compression", "format", "the Debian package is compressed in a way that only dpkg-deb reads", "deb(5)",
           "install dpkg"),
)  # fmt: skip
