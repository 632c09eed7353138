"""What Gramine's /dev/attestation answers, through regular files: a quoting enclave in software.

Invariants: a report or quote that appears carries exactly the user_report_data that stood there; files appear whole
(temporary name, rename). Nothing of this is in the measured part of a bundle; every quote is by the simulator's root.
Source: docs/simulator.md, "The device"; Gramine documentation, "Attestation and secret provisioning".
"""

import argparse
import contextlib
import hashlib
import hmac
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from glasscase.errors import Error, StorageError
from glasscase.fs.atomic import storage_error
from glasscase.fs.child import module_command
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import FLAG_INIT, FLAG_MODE64, TARGET_INFO_SIZE, XFRM_LEGACY_AVX512, report_body, target_info

REPORT_DATA_SIZE = 64  # bytes
MOUNT_KEY = "keys/persist"
INPUTS = ("user_report_data", "target_info", MOUNT_KEY)  # what an enclave writes
POLL_S = 0.004
IDLE_POLL_S = 0.02
REFUSED_S = 0.5  # until a full disk is tried again
_IDLE_AFTER = 500  # polls without a change
_REPORT_KEY_ID_SIZE = 32


class SoftwareDevice:
    """The files of one enclave in `directory` and the loop that answers them.

    directory: made if absent. attributes_flags: as in SIGSTRUCT; INIT is added, as EINIT does. All other facts are those
    of the true bundle. shared: every account that can reach the directory may use the device, else only this one.
    serve() runs until stop(); start() does it in a thread.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        platform: SimPlatform,
        *,
        mrenclave: bytes,
        mrsigner: bytes,
        isv_prod_id: int = 0,
        isv_svn: int = 0,
        attributes_flags: int = FLAG_INIT | FLAG_MODE64,
        xfrm: int = XFRM_LEGACY_AVX512,
        misc_select: int = 0,
        shared: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self._shared = shared
        self._platform = platform
        self._fields = {
            "mrenclave": mrenclave,
            "mrsigner": mrsigner,
            "isv_prod_id": isv_prod_id,
            "isv_svn": isv_svn,
            "attributes_flags": attributes_flags | FLAG_INIT,
            "xfrm": xfrm,
            "misc_select": misc_select,
        }
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._answered: tuple[bytes, bytes] | None = None
        self._prepare(mrenclave)

    def start(self) -> None:
        """Answer in a thread of this process until stop()."""
        self._thread = threading.Thread(target=self.serve, name="software-device", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End serve() and wait for the thread of start(), if there is one."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def serve(self, *, until_eof: int | None = None, refused: Callable[[StorageError], None] | None = None) -> None:
        """Answer until stop(), until the directory is gone, or until the descriptor `until_eof` reads end of file.

        refused: is told when the disk refuses an answer, once until it takes one again, which is tried; without it that is raised.
        """
        quiet, told = 0, False
        while not self._stopping.is_set():
            wait = IDLE_POLL_S if quiet > _IDLE_AFTER else POLL_S
            try:
                answered = self.answer()
                quiet = 0 if answered else quiet + 1
                told = told and not answered
            except StorageError as error:
                if not self.directory.is_dir():
                    return
                if refused is None:
                    raise
                if not told:
                    refused(error)
                told, wait = True, REFUSED_S
            if until_eof is None:
                self._stopping.wait(wait)
            elif select.select([until_eof], [], [], wait)[0] and not os.read(until_eof, 4096):
                return

    def answer(self) -> bool:
        """Look once; return whether a new report and quote were written."""
        report_data = self._read("user_report_data", REPORT_DATA_SIZE)
        target = self._read("target_info", TARGET_INFO_SIZE)
        if report_data is None or target is None or self._answered == (report_data, target):
            return False
        body = report_body(**self._fields, report_data=report_data)  # type: ignore[arg-type]
        self._write("report", body + self._report_tail(body, target))
        if self._answered is None or self._answered[0] != report_data:
            self._write("quote", self._platform.quote(body))
        self._answered = (report_data, target)
        return True

    def _prepare(self, mrenclave: bytes) -> None:
        own_target = target_info(
            mrenclave=mrenclave,
            attributes_flags=int(self._fields["attributes_flags"]),  # type: ignore[call-overload]
            xfrm=int(self._fields["xfrm"]),  # type: ignore[call-overload]
            misc_select=int(self._fields["misc_select"]),  # type: ignore[call-overload]
        )
        try:
            (self.directory / "keys").mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._shared:
                self.directory.chmod(0o755)
                (self.directory / "keys").chmod(0o755)
        except OSError as error:
            raise storage_error(error, self.directory) from None
        self._write("attestation_type", b"dcap")
        self._write("my_target_info", own_target)
        self._write("keys/_sgx_mrenclave", self._platform.enclave_key("seal", mrenclave, 16))
        self._write(MOUNT_KEY, b"")  # Gramine shows the key of each encrypted mount, empty until it is set
        self._write("user_report_data", bytes(REPORT_DATA_SIZE))
        self._write("target_info", bytes(TARGET_INFO_SIZE))
        self.answer()

    def _report_tail(self, body: bytes, target: bytes) -> bytes:
        """Return key id and MAC of EREPORT, simulated: a MAC that only this platform can make for that target."""
        key_id = hashlib.sha256(b"report key id" + target).digest()[:_REPORT_KEY_ID_SIZE]
        report_key = self._platform.enclave_key("report", target + key_id, 32)
        return key_id + hmac.new(report_key, body, hashlib.sha256).digest()[:16]

    def _read(self, name: str, size: int) -> bytes | None:
        """Return a file of exactly `size` bytes, or None while it is being written."""
        try:
            with open(self.directory / name, "rb", buffering=0) as file:
                data = file.read(size + 1)
        except FileNotFoundError:
            if not self.directory.is_dir():
                raise storage_error(FileNotFoundError(2, "gone"), self.directory) from None
            return None
        except OSError as error:
            raise storage_error(error, self.directory / name) from None
        return data if len(data) == size else None

    def _write(self, name: str, content: bytes) -> None:
        path = self.directory / name
        part = path.with_name(f".part-{path.name}")
        try:
            part.write_bytes(content)
            part.chmod((0o666 if name in INPUTS else 0o644) if self._shared else 0o600)
            part.rename(path)
        except OSError as error:
            raise storage_error(error, path) from None


def command(
    directory: str | os.PathLike[str],
    platform_directory: str | os.PathLike[str],
    *,
    mrenclave: bytes,
    mrsigner: bytes,
    isv_prod_id: int,
    isv_svn: int,
    attributes_flags: int,
    xfrm: int,
    misc_select: int,
    shared: bool = False,
) -> list[str]:
    """Return the argv of a device process. It ends when its standard input ends: give it a pipe that the enclave holds."""
    return module_command(
        "glasscase.sim.device", directory, platform_directory, f"--mrenclave={mrenclave.hex()}", f"--mrsigner={mrsigner.hex()}",
        f"--isv-prod-id={isv_prod_id}", f"--isv-svn={isv_svn}",
        f"--attributes-flags={attributes_flags}", f"--xfrm={xfrm}", f"--misc-select={misc_select}",
        *(["--shared"] if shared else []),
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    """Serve the device that `command` describes until standard input ends or SIGTERM arrives; return the exit code."""
    parser = argparse.ArgumentParser(prog="glasscase.sim.device", allow_abbrev=False)
    parser.add_argument("directory")
    parser.add_argument("platform")
    for name in ("mrenclave", "mrsigner"):
        parser.add_argument(f"--{name}", required=True, type=bytes.fromhex)
    for name in ("isv-prod-id", "isv-svn", "attributes-flags", "xfrm", "misc-select"):
        parser.add_argument(f"--{name}", required=True, type=int)
    parser.add_argument("--shared", action="store_true")
    fields = vars(parser.parse_args(arguments))
    try:
        platform = SimPlatform.open(fields.pop("platform"))
        device = SoftwareDevice(fields.pop("directory"), platform, **fields)
        signal.signal(signal.SIGTERM, lambda *_: device.stop())
        device.serve(until_eof=sys.stdin.fileno(), refused=_say)
    except Error as error:
        _say(error)
        return error.exit_code
    return 0


def _say(error: Error) -> None:
    with contextlib.suppress(OSError):  # the log may lie on the same disk
        sys.stderr.write(f"software device: error: {error.message} [{error.reason}]\n")
        sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
