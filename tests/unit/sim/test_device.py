"""The software /dev/attestation: what is written is what is quoted, whole files only, and it ends with its enclave."""

import os
import subprocess
import threading
import time

import pytest

from glasscase.errors import StorageError
from glasscase.sim.device import SoftwareDevice, command
from glasscase.sim.platform import SimPlatform

ENCLAVE = {
    "mrenclave": bytes(range(32)), "mrsigner": b"\7" * 32, "isv_prod_id": 3, "isv_svn": 4, "attributes_flags": 4,
    "xfrm": 0x1F, "misc_select": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return SimPlatform.open(tmp_path_factory.mktemp("sim"))


@pytest.fixture
def device(platform, tmp_path):
    device = SoftwareDevice(tmp_path / "sim", platform, **ENCLAVE)
    device.start()
    yield device
    device.stop()


def ask(directory, report_data, *, name="quote", offset=48, target=bytes(512), deadline_s=60.0):
    """Do what the enclave does: write target and report data, read until the answer carries them."""
    (directory / "target_info").write_bytes(target)
    (directory / "user_report_data").write_bytes(report_data)
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        answer = (directory / name).read_bytes()
        if answer[offset + 320 : offset + 384] == report_data:
            return answer
        time.sleep(0.001)
    pytest.fail("no answer")


def test_quote_carries_what_was_written(device, platform):
    """Each quote has the report data asked for and the facts of the true bundle."""
    for _ in range(3):
        report_data = os.urandom(32) + bytes(32)
        body = ask(device.directory, report_data)[48:432]

        assert report_data == body[320:]
        assert (ENCLAVE["mrenclave"], ENCLAVE["mrsigner"]) == (body[64:96], body[128:160])
        assert (3, 4) == (int.from_bytes(body[256:258], "little"), int.from_bytes(body[258:260], "little"))
        assert 5 == int.from_bytes(body[48:56], "little"), "EINIT adds INIT"
        assert (0x1F, 1) == (int.from_bytes(body[56:64], "little"), int.from_bytes(body[16:20], "little"))


def test_report_has_the_same_body(device):
    """EREPORT's answer is 432 bytes whose body is that of the quote; the MAC belongs to target and body."""
    first = ask(device.directory, b"\x01" * 64, name="report", offset=0)
    other = ask(device.directory, b"\x02" * 64, name="report", offset=0)
    quote = ask(device.directory, b"\x02" * 64)

    assert 432 == len(first) == len(other)
    assert other[:384] == quote[48:432]
    assert first[416:] != other[416:]


def test_own_target_info_names_the_enclave(device):
    """my_target_info holds MRENCLAVE, attributes and MISCSELECT at the places of TARGETINFO."""
    target = (device.directory / "my_target_info").read_bytes()

    assert 512 == len(target)
    assert ENCLAVE["mrenclave"] == target[:32]
    assert 5 == int.from_bytes(target[32:40], "little")
    assert 0x1F == int.from_bytes(target[40:48], "little")
    assert 1 == int.from_bytes(target[52:56], "little")


def test_half_written_report_data_is_not_answered(device):
    """A short or long user_report_data changes nothing."""
    before = (device.directory / "quote").read_bytes()
    for size in (0, 63, 65):
        (device.directory / "user_report_data").write_bytes(b"\x05" * size)
        time.sleep(0.03)

        assert before == (device.directory / "quote").read_bytes()


def test_static_files(device):
    """The list of files is the documented one."""
    names = sorted(str(p.relative_to(device.directory)) for p in device.directory.rglob("*") if p.is_file())

    assert ["attestation_type", "keys/_sgx_mrenclave", "keys/persist", "my_target_info", "quote", "report", "target_info",
            "user_report_data"] == [name for name in names if ".part-" not in name]  # fmt: skip
    assert b"dcap" == (device.directory / "attestation_type").read_bytes()


def test_seal_key_belongs_to_enclave_and_platform(platform, tmp_path):
    """The same enclave gets the same 16 bytes again; another enclave or another platform gets others."""

    def key(at_platform, name, mrenclave):
        SoftwareDevice(tmp_path / name, at_platform, **{**ENCLAVE, "mrenclave": mrenclave})
        return (tmp_path / name / "keys" / "_sgx_mrenclave").read_bytes()

    first = key(platform, "a", bytes(32))
    other_platform = SimPlatform.open(tmp_path / "other")

    assert 16 == len(first)
    assert first == key(platform, "b", bytes(32))
    assert first != key(platform, "c", b"\1" * 32)
    assert first != key(other_platform, "d", bytes(32))


def test_readers_never_see_half_a_file(device):
    """While quotes change, every read gives a whole one."""
    sizes = set()
    stop = threading.Event()

    def read():
        while not stop.is_set():
            sizes.add(len((device.directory / "quote").read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(20):
        ask(device.directory, bytes([n]) * 64)
    stop.set()
    reader.join()

    assert 1 == len(sizes)


def test_process_ends_with_its_pipe(platform, tmp_path):
    """The device process answers, and ends by itself when the last holder of its pipe is gone."""
    directory = tmp_path / "sim"
    read_end, write_end = os.pipe()
    argv = command(directory, platform.directory, **ENCLAVE)
    process = subprocess.Popen(argv, stdin=read_end, close_fds=True)
    os.close(read_end)
    try:
        end = time.monotonic() + 60
        while not (directory / "quote").exists() and time.monotonic() < end:
            time.sleep(0.01)
        ask(directory, b"\x09" * 64)
    finally:
        os.close(write_end)

    assert 0 == process.wait(timeout=60)


def test_ends_when_the_directory_is_gone(platform, tmp_path):
    """Removing the instance's directory ends the loop without an error."""
    device = SoftwareDevice(tmp_path / "sim", platform, **ENCLAVE)
    thread = threading.Thread(target=device.serve)
    thread.start()
    (tmp_path / "sim").rename(tmp_path / "gone")
    thread.join(timeout=60)

    assert not thread.is_alive()


def device_process(directory, platform_directory, stdin):
    """Start the device as the launcher does."""
    facts = dict.fromkeys(("isv_prod_id", "isv_svn", "attributes_flags", "xfrm", "misc_select"), 0)
    argv = command(directory, platform_directory, mrenclave=bytes(32), mrsigner=bytes(32), **facts)
    return subprocess.Popen(argv, stdin=stdin, stderr=subprocess.PIPE)


def test_a_device_that_cannot_start_says_so_in_one_line(tmp_path):
    """Its last words stand in the answer of `run`: a reason, and no traceback."""
    (tmp_path / "sim").write_bytes(b"")
    process = device_process(tmp_path / "sim", tmp_path / "platform", subprocess.PIPE)
    said = process.communicate(timeout=60)[1].decode().splitlines()

    assert (4, 1) == (process.returncode, len(said))
    assert "device: error: " in said[0] and "[fs.file." in said[0]


def test_a_full_disk_is_said_once_and_outlived(platform, tmp_path, monkeypatch):
    """The device goes on, and answers when there is room again: the enclave asks once more."""
    device = SoftwareDevice(tmp_path / "sim", platform, **ENCLAVE)
    full, said = threading.Event(), []
    full.set()
    write = SoftwareDevice._write

    def refuse(self, name, content):
        if full.is_set():
            raise StorageError("fs.file.full", "no space left")
        write(self, name, content)

    monkeypatch.setattr(SoftwareDevice, "_write", refuse)
    monkeypatch.setattr("glasscase.sim.device.REFUSED_S", 0.01)
    thread = threading.Thread(target=device.serve, kwargs={"refused": said.append})
    thread.start()
    try:
        (tmp_path / "sim" / "user_report_data").write_bytes(b"\5" * 64)
        deadline = time.monotonic() + 20
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        full.clear()
        ask(tmp_path / "sim", b"\6" * 64)
    finally:
        device.stop()
        thread.join()
    assert ["fs.file.full"] == [error.reason for error in said]
