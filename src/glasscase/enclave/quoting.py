"""Quotes and reports through Gramine's /dev/attestation: the one interface on hardware and on the simulator.

Invariants: one lock around write and read; a report or quote is returned only if it carries exactly what was asked for;
what the enclave knows of itself comes from its own report, never from a quote that the host made.
Source: Gramine documentation, "Attestation and secret provisioning".
"""

import os
import threading
import time

from glasscase.errors import StorageError
from glasscase.sgx.report import ReportBody, own_report

REPORT_DATA_SIZE = 64  # bytes
TARGET_INFO_SIZE = 512  # bytes
REPORT_SIZE = 432  # bytes
QUOTE_MAX = 64 * 1024  # bytes
QUOTE_HEADER_SIZE = 48  # bytes before the report body
REPORT_BODY_SIZE = 384  # bytes
_REPORT_DATA_AT = 320  # in the report body
_POLL_S = 0.01


class Quoter:
    """The attestation device in `directory`. deadline_s: how long one answer may take."""

    def __init__(self, directory: str, *, deadline_s: float = 30.0) -> None:
        self._directory = directory
        self._deadline_s = deadline_s
        self._lock = threading.Lock()

    def own_facts(self) -> ReportBody:
        """Return what EREPORT says of this enclave, targeted at itself. Raises StorageError("enclave.device.failed")."""
        report_data = os.urandom(REPORT_DATA_SIZE)
        with self._lock:
            target = self._read("my_target_info", TARGET_INFO_SIZE)
            if len(target) != TARGET_INFO_SIZE:
                raise _failed("my_target_info", "it cannot be read", None)
            self._write("target_info", target)
            self._write("user_report_data", report_data)
            return own_report(self._await("report", range(REPORT_SIZE, REPORT_SIZE + 1), 0, report_data))

    def quote(self, report_data: bytes) -> bytes:
        """Return a quote whose report data are the 64 bytes given. Raises StorageError("enclave.device.failed")."""
        with self._lock:
            self._write("user_report_data", report_data)
            return self._await(
                "quote", range(QUOTE_HEADER_SIZE + REPORT_BODY_SIZE + 1, QUOTE_MAX + 1), QUOTE_HEADER_SIZE, report_data
            )

    def _await(self, name: str, sizes: range, body_at: int, report_data: bytes) -> bytes:
        """Read until the file has an allowed size and its report body, at `body_at`, carries `report_data`."""
        start = body_at + _REPORT_DATA_AT
        end = time.monotonic() + self._deadline_s
        while True:
            data = self._read(name, sizes.stop - 1)
            if len(data) in sizes and data[start : start + REPORT_DATA_SIZE] == report_data:
                return data
            if time.monotonic() >= end:
                raise StorageError(
                    "enclave.device.failed", f"no {name} for what was asked within {self._deadline_s:g} s"
                )
            time.sleep(_POLL_S)

    def _read(self, name: str, limit: int) -> bytes:
        """Return at most limit + 1 bytes of a device file; absent or refused reads as empty, to be tried again."""
        chunks = []
        left = limit + 1
        try:
            descriptor = os.open(os.path.join(self._directory, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                while left and (chunk := os.read(descriptor, left)):
                    chunks.append(chunk)
                    left -= len(chunk)
            finally:
                os.close(descriptor)
        except OSError:
            return b""
        return b"".join(chunks)

    def _write(self, name: str, content: bytes) -> None:
        path = os.path.join(self._directory, name)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                written = os.write(descriptor, content)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _failed(name, error.strerror or "failed", error.errno) from None
        if written != len(content):
            raise _failed(name, "it was not written whole", None)


def _failed(name: str, text: str, number: int | None) -> StorageError:
    return StorageError(
        "enclave.device.failed", f"attestation device, {name}: {text.lower()}", path=name, errno=number,
        hint="is the enclave run with remote attestation, and is aesmd there?",
    )  # fmt: skip
