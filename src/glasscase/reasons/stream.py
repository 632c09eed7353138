"""Ids of the area `stream`: encrypted files."""

from glasscase.reasons.model import Reason

_RULE = "docs/stream-format.md"
_AGAIN = "the file was changed or damaged: get it again from who made it"

REASONS: tuple[Reason, ...] = (
    Reason("stream.header.magic", "format", "the file is not an encrypted file of glasscase", _RULE,
           "check that the right file was given"),
    Reason("stream.version.newer", "format", "the file has a newer format", _RULE, "use a newer version of glasscase"),
    Reason("stream.suite.unknown", "format", "the file uses an algorithm that this version does not know", _RULE,
           "use a newer version of glasscase"),
    Reason("stream.header.malformed", "format", "a field of the header is not allowed", _RULE, _AGAIN),
    Reason("stream.key.wrong", "format", "the file was made with another key", _RULE,
           "use the key whose id the header names; keygen --json shows the id of a key"),
    Reason("stream.header.unauthentic", "format", "the header was changed, or another context belongs to it", _RULE,
           "give the same context as for encrypting; if it is the same, get the file again"),
    Reason("stream.header.differs", "format", "the file is not the one that was expected", _RULE, _AGAIN),
    Reason("stream.kind.wrong", "format", "a file, a manifest or a blob where another of them must be", _RULE,
           "decrypt a package by its directory, a single file by its name"),
    Reason("stream.chunk.unauthentic", "format", "a chunk is not authentic", _RULE, _AGAIN),
    Reason("stream.leaf.mismatch", "format", "a chunk is not the content that the digest names", _RULE,
           "a holder of the key has made other content: do not use it"),
    Reason("stream.length.truncated", "format", "the file ends too early", _RULE, _AGAIN),
    Reason("stream.length.trailing", "format", "the file goes on after its last chunk", _RULE, _AGAIN),
    Reason("stream.size.mismatch", "format", "the file is not as long as was stated", _RULE,
           "run it again when nobody writes to the file"),
    Reason("stream.content.changed", "format", "the file changed while it was read", "docs/stream-format.md, packages",
           "run it again when nobody writes to the file"),
    Reason("stream.legacy.unauthentic", "format", "a predecessor's file does not open with the key", _RULE,
           "check file, key and --legacy KIND"),
    Reason("stream.legacy.clash", "usage", "a predecessor's directory holds a file encrypted and in clear", _RULE,
           "remove one of the two"),
    Reason("stream.key.malformed", "usage", "a key is not exactly 32 bytes", _RULE,
           "a key file holds 32 raw bytes, no text and no newline; glasscase keygen makes one"),
    Reason("stream.context.long", "usage", "the context is longer than 4096 bytes", _RULE, "bind a digest of it instead"),
    Reason("stream.source.sequential", "usage", "a pipe or device cannot be read in any order", _RULE,
           "save it to a file first"),
    Reason("stream.source.directory", "usage", "a directory where a file must be", _RULE, "name a file"),
    Reason("stream.threads.range", "usage", "the number of threads is not 1 to 64", _RULE, "give 1 to 64"),
    Reason("stream.size.limit", "usage", "the content is larger than 16 TiB", _RULE, "split it"),
    Reason("stream.disk.full", "storage", "disk, quota or file size limit is reached", _RULE, "free some space"),
    Reason("stream.io.failed", "storage", "the system could not read or write", _RULE, "check the disk"),
    Reason("stream.operation.cancelled", "interrupted", "the operation was stopped", _RULE,
           "run it again; nothing half-written is left"),
)  # fmt: skip
