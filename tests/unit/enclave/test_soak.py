"""Ten minutes of load: requests, handshakes, challenges and garbage, without growth. Only with --long."""

import concurrent.futures
import contextlib
import os
import time

import pytest

from glasscase.codec import cbor

from .conftest import make_config

SECONDS = 600
GROWTH_MAX = 24 << 20  # bytes between the first minute and the last


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
def test_it_does_not_grow(enclave):
    """Memory and descriptors after ten minutes are those after one."""
    one = enclave(config=make_config(server={"header_timeout": 2, "idle_timeout": 5})).start()
    one.serve()
    end = time.monotonic() + SECONDS
    asked = cbor.encode({"nonce": b"n" * 32})

    def requests():
        done = 0
        while time.monotonic() < end:
            with contextlib.closing(one.connection()) as connection:
                for _ in range(200):
                    assert 200 == one.ask("POST", "/length", bytes(5000), connection=connection)[0]
                    done += 1
        return done

    def others():
        done = 0
        while time.monotonic() < end:
            assert one.well_known("POST", "evidence", asked)[0] in (200, 429)
            assert (403, b"refused") == one.well_known("POST", "provision", os.urandom(5000), "application/cose")
            with contextlib.suppress(OSError), contextlib.closing(one.connection()) as connection:
                connection.connect()
                connection.sock.sendall(b"\0" * 100)
            done += 1
        return done

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(requests), pool.submit(requests), pool.submit(others)]
        time.sleep(SECONDS / 10)
        before = (resident_bytes(one.process.pid), len(os.listdir(f"/proc/{one.process.pid}/fd")))
        counts = [future.result() for future in running]
    time.sleep(6)
    after = (resident_bytes(one.process.pid), len(os.listdir(f"/proc/{one.process.pid}/fd")))

    assert min(counts) > 100
    assert after[0] - before[0] < GROWTH_MAX, (before, after, counts)
    assert after[1] <= before[1] + 2
    assert 0 == one.stop()
