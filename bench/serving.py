"""Requests per second through RA-TLS against plain uvicorn with TLS and the same application: the ratio has a floor.

wrk, which is installed through apt-get, loads the two servers in turns, each in a session of its own. Only rounds during which
nobody else used the machine count; the ratio is that of the medians by wall time. Processor time per request is shown beside it.
"""

import argparse
import importlib.util
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench._peers import installed
from bench._quiet import Clock

FLOOR = 0.9  # of plain uvicorn's requests per second
ROOT = Path(__file__).resolve().parents[1]
APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
"""
PLAIN = """
import sys, uvicorn
sys.path.insert(0, sys.argv[1])
from demo import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), ssl_certfile=sys.argv[3], loop="asyncio", http="h11",
            access_log=False, log_level="warning", lifespan="off", ws="none")
"""


def harness():
    """Return the module of the tests that runs an enclave on the simulator."""
    path = ROOT / "tests" / "unit" / "enclave" / "conftest.py"
    spec = importlib.util.spec_from_file_location("harness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def processor_seconds(pid):
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid, port, seconds):
    """Return how many requests a server answered per second, and the seconds of its processor time."""
    before = processor_seconds(pid)
    url = f"https://127.0.0.1:{port}/x"
    output = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{seconds}s", url], capture_output=True, text=True, check=True
    ).stdout
    used = processor_seconds(pid) - before
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"errors under load: {output}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), used


def handshake_ms(tests, port, *, count=200):
    """Return the median time of a full TLS 1.3 handshake, client and server on this machine."""
    context = tests.client_context()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain):
            times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[count // 2]


def main(arguments):
    """Print the two rates and their ratio; return 1 if it is below the floor, 3 if there are no figures."""
    parser = argparse.ArgumentParser(prog="bench/run.py serving")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--busy", action="store_true", help="report also if the machine was busy")
    options = parser.parse_args(arguments)
    if not installed("wrk"):
        print("serving: wrk is not installed, so nothing was measured: apt-get install wrk", file=sys.stderr)
        return 3
    tests = harness()
    clock = Clock(keep=options.busy)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "enclave").mkdir()
        (folder / "demo.py").write_text(APP)
        paths = [f"rootfs/opt/site/{path}" for path in tests.wheel_files()]
        platform = tests.SimPlatform.open(folder / "platform")
        enclave = tests.Enclave(folder / "enclave", paths, platform, app={"demo.py": APP}).start()
        port = enclave.port + 1
        plain = subprocess.Popen(
            [sys.executable, "-c", PLAIN, str(folder), str(port), str(tests.self_signed(folder))],
            start_new_session=True,
        )
        try:
            enclave.serve()
            time.sleep(1)
            servers = {"enclave": (enclave.process.pid, enclave.port), "plain uvicorn": (plain.pid, port)}
            rates = turns(clock, servers, options)
            handshakes = {side: handshake_ms(tests, at) for side, (_, at) in servers.items()}
        finally:
            plain.kill()
            plain.wait()
            enclave.close()
    lacking = clock.lacking(servers, (options.rounds + 1) // 2)
    if lacking:
        print(f"serving: {clock}: too few are left of {', '.join(lacking)}: no figures; see --busy", file=sys.stderr)
        return 3
    print(f"{clock}; medians")
    ratio = line("requests per second", 0, rates)
    line("requests per second of processor time", 1, rates)
    print(f"{'full handshake, ms':40}" + "".join(f"{side} {handshakes[side]:8.2f}   " for side in servers))
    return 0 if ratio >= FLOOR else 1


def turns(clock, servers, options):
    """Load the servers in turns; return for each the quiet rounds: requests per second of wall and of processor time."""
    rates = {side: [] for side in servers}
    for number in range(options.rounds):
        for side in sorted(servers, reverse=number % 2 == 1):  # none is always the first
            found = []

            def work(side=side, found=found):
                rate, used = load(*servers[side], options.seconds)
                found.append((rate, rate * options.seconds / used))
                return 1 / rate, used

            if clock.run(side, work) or clock.keep:
                rates[side].append(found[-1])
    return rates


def line(what, number, rates):
    """Print the medians of both servers; return their ratio."""
    ours, theirs = (statistics.median(rate[number] for rate in found) for found in rates.values())
    print(f"{what:40}enclave {ours:8.0f}   plain uvicorn {theirs:8.0f}   {ours / theirs:.2f}x")
    return ours / theirs
