"""The ledgers that `build` keeps and `seal` reads: what was built here, so that nobody seals to a stranger's bundle."""

import fcntl
import os
import time

from glasscase.cli.places import data_dir, data_dir_if_any
from glasscase.fs.atomic import read_file, storage_error, write_file
from glasscase.statements.ledger import LEDGER_MAX, NAME, NO_KEY, next_line, parse_ledger, released


def record_release(project: str, *, bundle_id: bytes, mrenclave: bytes, isv_svn: int) -> None:
    """Append a release to the ledger of the project and to the user's own; a bundle that is there is not added again.

    Raises FormatError("ledger.*") if a ledger is damaged.
    """
    for folder in (project, os.fspath(data_dir())):
        path = os.path.join(folder, NAME)
        try:
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise storage_error(error, folder) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            content = read_file(path, max_bytes=LEDGER_MAX, what="ledger") if os.path.lexists(path) else b""
            lines = parse_ledger(content, public_key=NO_KEY)
            if bundle_id in {line.bundle_id for line in lines if line.kind == "release"} and mrenclave in released(
                lines
            ):
                continue
            line = next_line(
                lines, public_key=NO_KEY, kind="release", bundle_id=bundle_id, mrenclave=mrenclave, isv_svn=isv_svn,
                time=int(time.time()),
            )  # fmt: skip
            write_file(path, content + line.to_bytes(), mode=0o600)
        finally:
            os.close(handle)


def known_measurements() -> frozenset[bytes]:
    """Return the measurements in the user's own ledger that have not been retired."""
    folder = data_dir_if_any()
    if folder is None or not os.path.lexists(path := folder / NAME):
        return frozenset()
    return released(parse_ledger(read_file(path, max_bytes=LEDGER_MAX, what="ledger"), public_key=NO_KEY))
