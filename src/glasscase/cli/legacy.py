"""`decrypt --legacy KIND`: files and directories of the predecessor, read once, to be encrypted anew.

Invariants: as for decrypt: no output under its final name before all of it has been opened; the input is not changed.
"""

import os
import sys

from glasscase.cli.output import Output


def decrypt_legacy(out: Output, source: str, target: str, *, key: str, kind: str) -> None:
    """Decrypt one file, or every `.enc` file of a directory (the others are copied, as the predecessor left them clear)."""
    from glasscase.fs.atomic import read_private
    from glasscase.importers.cenclave import Kind

    secret = read_private(key, max_bytes=64 << 10, what="key")
    if source != "-" and os.path.isdir(source):
        size, opened, copied = _directory(source, target, secret, Kind(kind))
        out.warn("names, order and number of these files were never authenticated: check them before you encrypt anew")
        out.result(
            {"bytes": size, "files": opened + copied, "decrypted": opened, "header": None},
            f"decrypted  {opened} files, {copied} more were not encrypted, {size} bytes, to {target}",
        )
        return
    plain = _file(source, secret, Kind(kind))
    if target == "-":
        sys.stdout.buffer.write(plain)
        sys.stdout.buffer.flush()
        return
    _write(target, plain, 0o600)
    out.result({"bytes": len(plain), "files": 1, "header": None}, f"decrypted  1 file, {len(plain)} bytes, to {target}")


def _file(path: str, key: bytes, kind: object) -> bytes:
    from glasscase.fs.atomic import read_file, read_stream
    from glasscase.importers.cenclave import FILE_MAX, Kind, decrypt

    if path == "-":
        data = read_stream(sys.stdin.buffer, max_bytes=FILE_MAX, what="input")
    else:
        data = read_file(path, max_bytes=FILE_MAX, what="input", streams=True)
    return decrypt(data, key, Kind(str(kind)))


def _directory(source: str, target: str, key: bytes, kind: object) -> tuple[int, int, int]:
    from glasscase.errors import UsageError
    from glasscase.fs.atomic import read_file, sync_file_system
    from glasscase.fs.directory import atomic_directory
    from glasscase.fs.walk import check_path, walk
    from glasscase.importers.cenclave import FILE_MAX, SUFFIX

    size = opened = copied = 0
    names: set[str] = set()
    with atomic_directory(target, mode=0o700) as part:
        for entry in walk(source):
            full = os.path.join(source, entry.path)
            name = entry.path.removesuffix(SUFFIX) if not entry.directory else entry.path
            if name in names:
                raise UsageError("stream.legacy.clash", f"{name!r} is there encrypted and in clear", hint="remove one")
            names.add(name)
            check_path(name)  # `.enc` and `...enc` would leave names that are none
            if entry.directory:
                os.mkdir(os.path.join(part, name), 0o755)
                continue
            encrypted = name != entry.path
            plain = _file(full, key, kind) if encrypted else read_file(full, max_bytes=FILE_MAX, what="file")
            opened, copied, size = opened + encrypted, copied + (not encrypted), size + len(plain)
            _write(os.path.join(part, name), plain, 0o755 if entry.executable else 0o644, durable=False)
        sync_file_system(part)
    return size, opened, copied


def _write(path: str, data: bytes, mode: int, *, durable: bool = True) -> None:
    from glasscase.fs.part import PartFile, write_all

    with PartFile(path, mode=mode, durable=durable) as output:
        write_all(output, data)
