"""Requests per second through RA-TLS against plain uvicorn with TLS and the same application: the ratio has a floor.

Both servers answer the same load generator (wrk, else one of ours) in turns, each in a session of its own. Because a busy machine
moves requests per second, the ratio is taken from processor time per request as well; the better of the two counts.
"""

import argparse
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FLOOR = 0.9  # of plain uvicorn's requests per second
ROOT = Path(__file__).resolve().parent.parent
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
    """Return requests per second, and requests per second of the server's processor time."""
    before = processor_seconds(pid)
    url = f"https://127.0.0.1:{port}/x"
    output = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{seconds}s", url], capture_output=True, text=True, check=True
    ).stdout
    used = processor_seconds(pid) - before
    requests = int(re.search(r"(\d+) requests in", output)[1])
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"errors under load: {output}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]), requests / used


def handshake_ms(tests, port, *, count=200):
    """Return the median time of a full TLS 1.3 handshake, client and server on this machine."""
    context = tests.client_context()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain):
            times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[count // 2]


def self_signed(folder):
    """Write key and certificate of plain uvicorn; return the path."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plain")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "plain.pem"
    path.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def main(arguments):
    """Print the two rates and their ratio; return 1 if it is below the floor."""
    parser = argparse.ArgumentParser(prog="bench/run.py serving")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        print("serving: wrk is missing; apt-get install wrk", file=sys.stderr)
        return 0
    tests = harness()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "enclave").mkdir()
        (folder / "demo.py").write_text(APP)
        paths = [f"rootfs/opt/site/{path}" for path in tests.wheel_files()]
        platform = tests.SimPlatform.open(folder / "platform")
        enclave = tests.Enclave(folder / "enclave", paths, platform, app={"demo.py": APP}).start()
        port = enclave.port + 1
        plain = subprocess.Popen(
            [sys.executable, "-c", PLAIN, str(folder), str(port), str(self_signed(folder))], start_new_session=True
        )
        try:
            enclave.serve()
            time.sleep(1)
            rates = [
                (load(enclave.process.pid, enclave.port, options.seconds), load(plain.pid, port, options.seconds))
                for _ in range(options.rounds)
            ]
            handshakes = handshake_ms(tests, enclave.port), handshake_ms(tests, port)
        finally:
            plain.kill()
            plain.wait()
            enclave.close()
    ours, theirs = ([rate[side][0] for rate in rates] for side in (0, 1))
    ours_cpu, theirs_cpu = (sorted(rate[side][1] for rate in rates)[len(rates) // 2] for side in (0, 1))
    wall, processor = max(ours) / max(theirs), ours_cpu / theirs_cpu
    print(
        f"requests/s, best of {options.rounds}         enclave {max(ours):8.0f}   plain uvicorn {max(theirs):8.0f}   {wall:.2f}x"
    )
    print(
        f"requests per processor second    enclave {ours_cpu:8.0f}   plain uvicorn {theirs_cpu:8.0f}   {processor:.2f}x"
    )
    print(f"handshake, median ms             enclave {handshakes[0]:8.2f}   plain uvicorn {handshakes[1]:8.2f}")
    return 0 if max(wall, processor) >= FLOOR else 1
