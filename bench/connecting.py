"""What verifying the enclave adds to a TLS handshake: connections to one RA-TLS server, plain and verified, in turns.

Both sides share this machine; medians of all rounds are shown. Verification must stay below LIMIT_MS of our own processor time.
"""

import argparse
import importlib.util
import json
import os
import signal
import socket
import ssl
import statistics
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MS = 1.5  # processor time of this process for one verification of a certificate that was seen before
ROOT = Path(__file__).resolve().parent.parent


def harness():
    """Return the module of the tests that makes RA-TLS servers."""
    path = ROOT / "tests" / "unit" / "ratls" / "conftest.py"
    spec = importlib.util.spec_from_file_location("harness", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(tools, platform, directory):
    """Start a server in a process of its own; return its pid, port and certificate."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        identity = tools.Identity(platform)
        server = tools.Server(identity, directory)
        os.write(writer, json.dumps({"port": server.port, "certificate": identity.certificate.hex()}).encode())
        os.close(writer)
        signal.pause()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = json.loads(pipe.read())
    return pid, told["port"], bytes.fromhex(told["certificate"])


def connect(context, port):
    """Return the milliseconds of one connection and handshake."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1"):
            return (time.perf_counter() - started) * 1000


def main(arguments):
    """Print the medians; return 1 if verification takes more processor time than the limit."""
    from glasscase import client
    from glasscase.evidence.attestation import Claims, Instance, Session
    from glasscase.ratls.judging import Judge
    from glasscase.ratls.reading import read_certificate
    from glasscase.ratls.sources import CollateralCache
    from glasscase.sim.platform import SimPlatform
    from glasscase.verify.anchor import TrustAnchor
    from glasscase.verify.policy import parse_policy

    parser = argparse.ArgumentParser(prog="bench/run.py connecting")
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args(arguments).count
    tools = harness()
    with tempfile.TemporaryDirectory() as work:
        platform = SimPlatform.open(Path(work) / "platform")
        pid, port, certificate = serve(tools, platform, Path(work))
        try:
            text = f'version = 1\n[measurement]\nmrenclave = "{tools.MRENCLAVE.hex()}"\n[platform]\nplatforms = ["any-intel"]\n'
            policy = parse_policy(text.encode("ascii"))
            anchor = TrustAnchor.insecure_root(platform.root_pem.encode("ascii"))
            collateral = tools.collateral_of(platform, int(time.time()))
            verified = client.context(policy, anchor, collateral_source=collateral)
            plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
            times = {"plain": [], "verified": []}
            for _ in range(count):
                times["plain"].append(connect(plain, port))
                times["verified"].append(connect(verified, port))
            cache = CollateralCache(collateral, anchor=anchor, now=lambda: int(time.time()))
            judge = Judge(policy=policy, anchor=anchor, measurement=None, cache=cache)
            before = time.process_time()
            for _ in range(count):
                judge.peer(certificate, "127.0.0.1", at=int(time.time()))
            own = (time.process_time() - before) * 1000 / count
            before = time.process_time()
            for _ in range(count):
                for reading in (read_certificate, Claims.from_bytes, Session.from_bytes, Instance.from_bytes):
                    getattr(reading, "__func__", reading).cache_clear()
                judge.peer(certificate, "127.0.0.1", at=int(time.time()))
            new = (time.process_time() - before) * 1000 / count
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"handshake, plain TLS 1.3   {medians['plain']:6.2f} ms (median of {count})")
    print(
        f"handshake, verified        {medians['verified']:6.2f} ms, {medians['verified'] - medians['plain']:.2f} ms more"
    )
    print(f"verification alone         {own:6.2f} ms of processor time (limit {LIMIT_MS})")
    print(f"  of a new certificate     {new:6.2f} ms")
    return 0 if own <= LIMIT_MS else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
