"""The attestation device: an answer counts only if it carries what was asked."""

import os
import threading
import time

import pytest

from glasscase.enclave.quoting import Quoter
from glasscase.errors import StorageError
from glasscase.sim.device import SoftwareDevice

from .conftest import MRENCLAVE


@pytest.fixture
def device(tmp_path, platform):
    """Return a software device that answers."""
    made = SoftwareDevice(tmp_path / "dev", platform, mrenclave=MRENCLAVE, mrsigner=b"S" * 32, isv_prod_id=1, isv_svn=3)
    made.start()
    yield made
    made.stop()


def test_own_facts_come_from_the_report(device, tmp_path):
    """EREPORT's facts are those of the enclave."""
    own = Quoter(str(tmp_path / "dev")).own_facts()

    assert (MRENCLAVE, 3, 1) == (own.mrenclave, own.isv_svn, own.isv_prod_id)


def test_a_quote_carries_what_was_asked(device, tmp_path):
    """Each quote has its own report data, also from many threads at once."""
    quoter = Quoter(str(tmp_path / "dev"))
    asked = [os.urandom(64) for _ in range(12)]
    quotes = {}

    def ask(data):
        quotes[data] = quoter.quote(data)

    threads = [threading.Thread(target=ask, args=(data,)) for data in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked == [quotes[data][368:432] for data in asked]


def answer(folder, name, content):
    (folder / name).write_bytes(content)


@pytest.mark.parametrize("quote", [b"", b"short", bytes(5000), bytes(70_000)])
def test_a_device_that_lies_gets_no_quote_through(tmp_path, quote):
    """An empty, short, foreign or oversized answer is never returned; a deadline ends the waiting."""
    answer(tmp_path, "user_report_data", bytes(64))
    answer(tmp_path, "quote", quote)
    start = time.monotonic()

    with pytest.raises(StorageError) as caught:
        Quoter(str(tmp_path), deadline_s=0.2).quote(b"q" * 64)
    assert "enclave.device.failed" == caught.value.reason
    assert time.monotonic() - start < 2
    assert b"q" * 64 == (tmp_path / "user_report_data").read_bytes()


def test_a_report_of_something_else_is_not_taken(tmp_path):
    """A stale report, with other report data, is not believed."""
    for name, size in (("my_target_info", 512), ("target_info", 512), ("user_report_data", 64), ("report", 432)):
        answer(tmp_path, name, bytes(size))

    with pytest.raises(StorageError) as caught:
        Quoter(str(tmp_path), deadline_s=0.2).own_facts()
    assert "enclave.device.failed" == caught.value.reason


def test_without_a_device_there_is_a_clear_error(tmp_path):
    """An absent device is named."""
    with pytest.raises(StorageError) as caught:
        Quoter(str(tmp_path / "none"), deadline_s=0.2).quote(bytes(64))
    assert "enclave.device.failed" == caught.value.reason


def test_an_enclave_without_a_device_ends(enclave):
    """The program ends with exit code 1 and the id when there is no attestation device."""
    one = enclave()
    one.device.stop()
    for path in (one.folder / "sim").rglob("*"):
        if path.is_file():
            path.unlink()
    one.start(wait=None)

    assert 1 == one.process.wait(15)
    assert "enclave.device.failed" in one.text()
