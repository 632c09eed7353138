"""The whole flow through the command line, on the simulator."""

import http.client
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from glasscase import auditor, client
from glasscase.codec.hexid import from_base64url
from glasscase.hosting import processes

from .conftest import SECRET, Shell, environment_of
from .json_keys import compare

pytestmark = pytest.mark.xdist_group("e2e")


def processes_below(directory):
    """Return the command lines of processes that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in line:
                found.append(line)
    return found


def test_run_says_what_it_started(shell, serving):
    """run names url, pid, state and MRENCLAVE, says SIMULATED and gives the root as PEM."""
    assert {"name", "pid", "url", "state", "mrenclave", "insecure_anchor"} <= set(serving)
    assert "SIMULATED" == serving["notice"]
    assert serving["insecure_anchor"].startswith("-----BEGIN CERTIFICATE-----")
    assert "waiting" == serving["state"]
    assert os.path.exists(f"/proc/{serving['pid']}")


def test_the_application_answers_over_ra_tls(shell, serving):
    """get verifies, then shows the answer; the sealed threshold is in force."""
    value = shell.run(
        "get", serving["url"] + "score", *shell.trust, "-H", "Content-Type: application/json",
        "-d", '{"amount": 90000, "hour": 2, "known_payee": false}',
    )  # fmt: skip

    assert (200, {"score": 100, "stop": True}) == (value["status"], value["body_json"])
    assert serving["mrenclave"] == value["mrenclave"]
    plain = shell.raw("get", serving["url"] + "health", *shell.trust)
    assert '{"status":"ok"}' == plain.stdout
    assert "verified" in plain.stderr


def test_get_refuses_without_the_right_root_or_bundle(shell, serving, tmp_path):
    """Intel's root and another bundle's measurement are both refused with 2; -o leaves no file."""
    target = tmp_path / "answer"
    for trust in (
        ("--policy", "policy.toml", "--bundle", "app.bundle"),
        ("--policy", "wrong.toml", "--insecure-anchor", "root.pem"),
    ):
        (shell.directory / "wrong.toml").write_text(
            f'version = 1\n[measurement]\nmrenclave = "{"00" * 32}"\n[platform]\nplatforms = ["any-intel"]\n'
        )
        value = shell.run(
            "get", serving["url"], *trust, "-o", target, "--collateral-source", collateral_file(shell), code=2
        )
        assert "error" in value
    assert not target.exists()


def collateral_file(shell):
    """Return a file with the collateral that evidence embeds."""
    path = shell.directory / "collateral.json"
    if not path.exists():
        shell.run("evidence", "main", "-o", "for-collateral.json")
        path.write_bytes(auditor.load_evidence(shell.directory / "for-collateral.json").collateral.to_bytes())
    return path


def test_status_of_one_and_of_all(shell, serving):
    """One instance is an object, so is the list; a serving one has its receipt."""
    one = shell.run("status", "main")
    everything = shell.run("status")

    assert ("main", "serving", serving["url"], serving["mrenclave"]) == tuple(
        one[key] for key in ("name", "state", "url", "mrenclave")
    )
    assert one["receipt"] and one["since"] and one["memory"] > 1 << 20
    assert "main" in [row["name"] for row in everything["instances"]]
    assert 1 == shell.raw("status", "nobody").returncode


def test_the_same_envelope_gives_the_same_receipt(shell, serving):
    """provision again: exit 0, the stored receipt, nothing changed."""
    first = shell.run("status", "main")["receipt"]
    again = shell.run("provision", "main", "main.sealed", "-o", "receipt.cose")

    assert first == again["receipt"]
    assert "SIMULATED  " in shell.raw("provision", "main", "main.sealed").stdout  # to people as well
    assert (shell.directory / "receipt.cose").read_bytes()
    assert "serving" == again["state"]


def test_a_receipt_that_cannot_be_written_is_said_before_anything_is_sent(shell, serving):
    """provision -o where no file can be: exit 4, the enclave still waits; the right place then gets the receipt."""
    shell.run("run", "app.bundle", "--backend", "simulator", "--name", "filed")
    sealed = shell.seal("filed")
    shell.run("provision", "filed", sealed, "-o", "nowhere/receipt", code=4)
    shell.run("provision", "filed", sealed, "-o", "-", code=1)
    shell.run("provision", "filed", sealed, "-o", ".", code=4)
    full = [
        "sh",
        "-c",
        'ulimit -f 0; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "glasscase",
    ]  # as a full disk does, that takes a name
    words = [*full, "provision", "filed", sealed, "-o", "full.receipt"]
    done = subprocess.run(
        words, cwd=shell.directory, env=shell.environment, capture_output=True, text=True, check=False
    )
    assert (4, True) == (done.returncode, "[fs.file.full]" in done.stderr)
    assert "waiting" == shell.run("status", "filed")["state"]
    receipt = shell.run("provision", "filed", sealed, "-o", "filed.receipt")["receipt"]
    assert from_base64url(receipt, "receipt") == (shell.directory / "filed.receipt").read_bytes()
    assert [] == [path.name for path in shell.directory.iterdir() if path.name.startswith((".part", "full"))]
    shell.run("stop", "filed")


def test_another_envelope_and_garbage_are_refused(shell, serving):
    """A second envelope, one for another instance, garbage of every kind: exit 2, still serving, same receipt."""
    before = shell.run("status", "main")["receipt"]
    (shell.directory / "garbage").write_bytes(os.urandom(500))
    (shell.directory / "empty").write_bytes(b"")
    flipped = bytearray((shell.directory / "main.sealed").read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (shell.directory / "flipped.sealed").write_bytes(flipped)
    for name in ("main.second.sealed", "flipped.sealed", "garbage", "empty", "/dev/zero", "policy.toml"):
        shell.run("provision", "main", name, "-o", "no-receipt", code=2)
        assert not (shell.directory / "no-receipt").exists()
    assert 4 == shell.raw("provision", "main", "absent").returncode
    assert 4 == shell.raw("provision", "main", ".").returncode

    assert before == shell.run("status", "main")["receipt"]


def test_evidence_answers_a_nonce(shell, serving):
    """--nonce makes a new quote over it, which verifies with that nonce and with no other."""
    nonce = os.urandom(32).hex()
    said = shell.run("evidence", "main", "-o", "nonce.json", "--nonce", nonce)
    assert nonce == said["nonce"]
    good = shell.run("verify", "nonce.json", *shell.trust, "--nonce", nonce)
    bad = shell.run("verify", "nonce.json", *shell.trust, "--nonce", os.urandom(32).hex(), code=2)

    assert "verified" == good["status"]
    assert ["freshness.nonce.mismatch"] == bad["failed"]
    assert 1 == shell.raw("evidence", "main", "-o", "x.json", "--nonce", "abc").returncode
    assert not (shell.directory / "x.json").exists()


def test_evidence_in_both_forms_is_the_same(shell, serving):
    """A .cbor name writes CBOR, any other JSON, and both verify."""
    for name in ("form.cbor", "form.json"):
        shell.run("evidence", "main", "-o", name)
        assert "verified" == shell.run("verify", name, *shell.trust)["status"]
    assert (shell.directory / "form.cbor").read_bytes()[:1] != b"{"


def test_evidence_without_its_anchor_or_policy(shell, serving):
    """Simulator evidence under Intel's root: 2; without a policy: 3."""
    shell.run("evidence", "main", "-o", "plain.json")
    assert 2 == shell.raw("verify", "plain.json", "--policy", "policy.toml", "--bundle", "app.bundle").returncode
    assert 3 == shell.raw("verify", "plain.json", "--insecure-anchor", "root.pem").returncode


def test_logs_show_the_life_and_no_secret(shell, serving):
    """logs prints what the enclave said; -f and --json exclude each other."""
    lines = shell.run("logs", "main")["lines"]

    assert any("waiting" in line for line in lines) and any("serving" in line for line in lines)
    assert not any(SECRET in line for line in lines)
    assert 1 == shell.raw("logs", "main", "-f", "--json").returncode


def test_no_secret_or_key_in_any_file_or_process(shell, serving):
    """The canary: the secret and the private keys are in no file of state and data, no argv and no environment."""
    words = [SECRET.encode(), (shell.directory / "keys" / "package.key").read_bytes()]
    pid = shell.run("status", "main")["pid"]
    for base in ("state", "data"):
        for path in (shell.directory.parent / base).rglob("*"):
            if path.is_file() and not path.is_symlink() and "run" not in path.parts:
                content = path.read_bytes()
                assert not any(word in content for word in words), path
    for name in ("cmdline", "environ"):
        content = Path(f"/proc/{pid}/{name}").read_bytes()
        assert not any(word in content for word in words)


def test_a_name_and_a_port_are_taken(shell, serving):
    """The same name and the same port again are refused with 1 and leave no instance."""
    port = serving["url"].rstrip("/").rpartition(":")[2]
    said = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "main", code=1)
    assert "hosting.name.running" == said["error"]["id"]
    said = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "other", "--port", port, code=1)
    assert "hosting.port.taken" == said["error"]["id"]
    assert "other" not in [row["name"] for row in shell.run("status")["instances"]]


def test_a_changed_bundle_is_not_started(shell, serving, tmp_path):
    """One changed byte in rootfs, runtime or the manifest: refused before anything starts."""
    copy = tmp_path / "changed.bundle"
    subprocess.run(["cp", "-r", shell.directory / "app.bundle", copy], check=True)
    for name in ("rootfs/opt/glasscase/main.py", "runtime/libpal.so", "app.manifest.sgx"):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        shell.run("run", copy, "--backend", "simulator", "--name", "changed", code=2)
        (copy / name).write_bytes(before)
    blob = next(path for path in sorted((copy / "blobs").iterdir()) if path.name != "manifest")
    before = blob.read_bytes()
    blob.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    shell.run("run", copy, "--backend", "simulator", "--name", "changed", "--check", "full", code=2)
    (copy / "app.sig").unlink()
    blob.write_bytes(before)
    said = shell.run("run", copy, "--backend", "simulator", "--name", "changed", code=2)
    assert "hosting.bundle.unsigned" == said["error"]["id"]
    assert "changed" not in [row["name"] for row in shell.run("status")["instances"]]


def test_gramine_refuses_the_simulators_bundle(shell, serving):
    """gramine-sgx and gramine-direct say that this bundle has no real runtime; without a backend the others are named."""
    for backend in ("gramine-sgx", "gramine-direct"):
        said = shell.run("run", "app.bundle", "--backend", backend, "--name", "real", "--user", "nobody", code=1)
        assert "hosting.runtime.simulated" == said["error"]["id"]
    if not Path("/dev/sgx_enclave").exists():
        said = shell.run("run", "app.bundle", "--name", "real", code=1)
        assert "hosting.backend.none" == said["error"]["id"]
        assert "simulator" in said["error"]["hint"]


def test_python_clients_reach_it(shell, serving):
    """glasscase.client.context works with the files of the command line."""
    context = client.context(
        auditor.load_policy(shell.directory / "policy.toml"),
        auditor.TrustAnchor.insecure_root(serving["insecure_anchor"].encode()),
        measurement=checked(shell),
        collateral_source=collateral_file(shell),
    )
    with urllib.request.build_opener(urllib.request.HTTPSHandler(context=context)).open(
        serving["url"] + "health"
    ) as answer:
        assert {"status": "ok"} == json.load(answer)


def checked(shell):
    from glasscase.bundle.check import check_bundle

    return check_bundle(shell.directory / "app.bundle")


def test_the_proxy_serves_any_client(shell, serving):
    """proxy verifies, listens, passes requests, and ends on SIGTERM with 5."""
    with shell.proxy(serving["url"], "127.0.0.1:0") as address:
        with urllib.request.urlopen(address + "/health", timeout=20) as answer:
            assert {"status": "ok"} == json.load(answer)
        request = urllib.request.Request(
            address + "/score", data=b'{"amount": "much"}', headers={"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        caught.value.close()
        assert 422 == caught.value.code
    assert 1 == shell.raw("proxy", serving["url"], *shell.trust, "--listen", "0.0.0.0:0").returncode


def test_ipv6_from_run_to_proxy(shell, serving):
    """An enclave that listens on ::1 is reached by get, proxy and Python under its URL, and by its name."""
    started = shell.run(
        "run", "app.bundle", "--backend", "simulator", "--name", "six", "--host", "::1", "--san", "six.example"
    )
    assert started["url"].startswith("https://[::1]:")
    shell.seal("six")
    assert "serving" == shell.run("provision", "six", "six.sealed")["state"]
    assert {"status": "ok"} == shell.run("get", started["url"] + "health", *shell.trust)["body_json"]
    context = client.context(
        auditor.load_policy(shell.directory / "policy.toml"),
        auditor.TrustAnchor.insecure_root(serving["insecure_anchor"].encode()),
        measurement=checked(shell), collateral_source=collateral_file(shell),
    )  # fmt: skip
    port = int(started["url"].rstrip("/").rpartition(":")[2])
    for name in ("::1", "six.example", "localhost"):
        with (
            socket.create_connection(("::1", port)) as plain,
            context.wrap_socket(plain, server_hostname=name) as reached,
        ):
            assert started["mrenclave"] == client.live_peer(reached).enclave.mrenclave.hex()
    with socket.create_connection(("::1", port)) as plain, pytest.raises(client.PeerRefused) as caught:
        context.wrap_socket(plain, server_hostname="seven.example")
    assert "client.name.mismatch" == caught.value.reason
    with (
        shell.proxy(started["url"], "[::1]:0") as address,
        urllib.request.urlopen(address + "/health", timeout=20) as answer,
    ):
        assert {"status": "ok"} == json.load(answer)
    shell.run("stop", "six")


def test_control_paths_are_not_the_applications(shell, serving):
    """GET status over an unverified connection answers; other own paths are 404, not the application's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    host, _, port = serving["url"].removeprefix("https://").rstrip("/").rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
    connection.request("GET", "/.well-known/glasscase/status")
    answer = connection.getresponse()
    assert "serving" == json.load(answer)["state"]
    connection.request("GET", "/.well-known/glasscase/other")
    assert 404 == connection.getresponse().status
    connection.close()


def test_life_of_a_second_instance(shell, serving):
    """Replayed envelope refused, killed seen as failed, restart waits again with other keys, stop ends the process."""
    started = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "second", "--timeout", "600")
    said = shell.run("provision", "second", "main.sealed", code=2)
    assert "hosting.provision.refused" == said["error"]["id"]
    assert "waiting" == shell.run("status", "second")["state"]
    os.kill(started["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes.identify(started["pid"]) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "failed" == shell.run("status", "second")["state"]
    assert 4 == shell.raw("evidence", "second", "-o", "gone.json").returncode
    assert not (shell.directory / "gone.json").exists()
    assert 4 == shell.raw("provision", "second", "main.sealed").returncode
    again = shell.run("restart", "second")
    assert ("waiting", started["mrenclave"]) == (again["state"], again["mrenclave"])
    assert again["pid"] != started["pid"]
    stopped = shell.run("stop", "second")
    assert ("stopped", "stopped") == (stopped["state"], stopped["how"])
    assert processes.identify(again["pid"]) is None
    assert [] == processes_below(shell.directory.parent / "state" / "instances" / "second")
    assert "gone" == shell.run("stop", "second", "--remove")["how"]
    assert 1 == shell.raw("status", "second").returncode


def test_a_restart_keeps_the_url(shell, serving):
    """Of an instance whose port the system chose, again and after a crash; a port that is taken is named, a fixed one refused."""
    first = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "same")
    again = shell.run("restart", "same")
    os.kill(again["pid"], signal.SIGKILL)
    third = shell.run("restart", "same")
    assert first["url"] == again["url"] == third["url"]
    assert [None] * 3 == [said["former_port"] for said in (first, again, third)]
    shell.run("stop", "same")
    port = int(first["url"].rstrip("/").rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        done = shell.raw("restart", "same", "--json")
        moved = json.loads(done.stdout)
        assert (port, "waiting") == (moved["former_port"], moved["state"])
        assert moved["url"] != first["url"] and f"port {port}" in done.stderr
        shell.run("stop", "same")
        shell.run("run", "app.bundle", "--backend", "simulator", "--name", "same", "--port", port, code=1)
    fixed = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "same", "--port", port)
    assert first["url"] == fixed["url"]
    shell.run("stop", "same")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        assert "hosting.port.taken" == shell.run("restart", "same", code=1)["error"]["id"]
    assert first["url"] == shell.run("restart", "same")["url"]
    shell.run("stop", "same")


def test_without_secrets_it_gives_up(shell, serving):
    """After --timeout the enclave ends by itself and is failed; the application was never started."""
    shell.run("run", "app.bundle", "--backend", "simulator", "--name", "idle", "--timeout", "2")
    deadline = time.monotonic() + 30
    while (now := shell.run("status", "idle"))["state"] != "failed" and time.monotonic() < deadline:
        time.sleep(0.2)

    assert "failed" == now["state"]
    assert not any("serving" in line for line in shell.run("logs", "idle")["lines"])


def test_an_interrupted_start_leaves_nothing(shell, serving):
    """SIGTERM while run waits: exit 5, no process of it is left."""
    process = shell.start("run", "app.bundle", "--backend", "simulator", "--name", "cut")
    shell.names.append("cut")
    below = shell.directory.parent / "state" / "instances" / "cut"
    deadline = time.monotonic() + 30
    while not processes_below(below) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    if process.returncode == 5:  # else it had answered already
        deadline = time.monotonic() + 10
        while processes_below(below) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [] == processes_below(below)


def test_a_start_that_cannot_be_told_is_ended(shell, serving):
    """A full disk behind stdout is exit 4 without a traceback, a closed pipe 5; the enclave that nobody heard of does not run on."""
    argv = [sys.executable, "-I", "-m", "glasscase", "run", "app.bundle", "--backend", "simulator", "--json", "--name"]
    options = {"cwd": shell.directory, "env": shell.environment, "stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    shell.names += ["full", "closed"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*argv, "full"], stdout=full, check=False, timeout=280, **options)
    assert 4 == done.returncode
    assert b"Traceback" not in done.stderr and b"fs.file.full" in done.stderr
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*argv, "closed"], stdout=write_end, check=False, timeout=280, **options)
    os.close(write_end)
    assert 5 == done.returncode
    for name in ("full", "closed"):
        assert "stopped" == shell.run("status", name)["state"]
        assert [] == processes_below(shell.directory.parent / "state" / "instances" / name)


def test_foreground_stops_with_its_command(shell, serving):
    """run --foreground says when it is ready, shows the log, and stops the enclave on SIGTERM with exit code 0."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.settimeout(60)
    channel.bind("\0glasscase-" + secrets.token_hex(8))
    shell.environment["NOTIFY_SOCKET"] = "@" + channel.getsockname()[1:].decode()
    process, said = shell.stay("front")
    pid = said["pid"]
    del shell.environment["NOTIFY_SOCKET"]
    with channel:
        assert b"READY=1" == channel.recv(100)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert b"STOPPING=1" == channel.recv(100)

    assert 0 == process.returncode
    assert processes.identify(pid) is None
    assert "stopped" == shell.run("status", "front")["state"]


def test_a_crash_under_foreground_is_no_stop(shell, serving):
    """run --foreground ends with 4 when its enclave is killed, and status says failed; a SIGHUP ends both, cleanly."""
    process, said = shell.stay("crashed")
    os.kill(said["pid"], signal.SIGKILL)
    process.communicate(timeout=60)

    assert 4 == process.returncode
    assert "failed" == shell.run("status", "crashed")["state"]
    process, said = shell.stay("crashed")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert 0 == process.returncode
    assert processes.identify(said["pid"]) is None
    assert "stopped" == shell.run("status", "crashed")["state"]


def test_two_starts_of_one_name_at_once(shell, serving):
    """One of two simultaneous starts wins, the other is told; one process runs."""
    both = [shell.start("run", "app.bundle", "--backend", "simulator", "--name", "twin", "--json") for _ in range(2)]
    shell.names.append("twin")
    codes = []
    for process in both:
        process.communicate(timeout=120)
        codes.append(process.returncode)

    assert 0 == min(codes) and max(codes) in (1, 4), codes
    shell.run("stop", "twin")


def demo(directory, **changes):
    """Start one demo in a directory of its own, with a space in its path."""
    (directory / "tmp dir").mkdir()
    (directory / "home").mkdir()
    environment = {
        **environment_of(directory),
        "TMPDIR": str(directory / "tmp dir"),
        "HOME": str(directory / "home"),
        **changes,
    }
    del environment["GLASSCASE_STATE"], environment["GLASSCASE_DATA"]
    environment.setdefault("GLASSCASE_CACHE", str(Path.home() / ".cache" / "glasscase"))
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "glasscase", "demo", "--json"], cwd=directory, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.long)])
def test_demos_at_once_leave_nothing(count, tmp_path):
    """Each shows every step and three refusals; no process and no file is left, HOME stays empty."""
    places = [tmp_path / f"demo {number}" for number in range(count)]
    for place in places:
        place.mkdir()
    running = [demo(place) for place in places]
    for place, process in zip(places, running, strict=True):
        out, err = process.communicate(timeout=280)
        assert 0 == process.returncode, err[-3000:]
        value = json.loads(out)
        compare("demo", value)
        names = [step["name"] for step in value["steps"]]
        assert all(step["ok"] for step in value["steps"])
        assert [
            "init",
            "keygen",
            "lock",
            "build",
            "sign",
            "run",
            "evidence",
            "verify",
            "seal",
            "provision",
            "get",
        ] == names[:11]
        assert 3 == len([name for name in names if name.startswith("refuse")]) == len(value["refusals"])
        assert {"score": 100, "stop": True} == json.loads(value["answer"])
        assert 64 == len(value["mrenclave"])
        assert "SIMULATED" in err
        assert [] == list((place / "tmp dir").iterdir()) and [] == list((place / "home").iterdir())
        assert [] == processes_below(place)


@pytest.mark.parametrize("kind", ["flask", pytest.param("django", marks=pytest.mark.long)])
def test_the_test_verb_runs_the_projects_tests(kind, home, tmp_path):
    """glasscase test: the other kinds serve, their own tests pass against the enclave, the exit code is theirs."""
    shell = Shell(tmp_path, environment_of(tmp_path))
    shell.run("init", "project", "--kind", kind)
    shell.directory = tmp_path / "project"
    shell.run("lock")
    before = set(shell.directory.rglob("*"))
    good = shell.run("test")
    compare("test", good)
    assert (0, "SIMULATED") == (good["exit"], good["notice"])
    assert before == set(shell.directory.rglob("*"))
    if kind == "flask":
        (shell.directory / "tests" / "test_app.py").write_text("def test_it():\n    assert False\n")
        done = shell.raw("test", "--json")
        assert (1, 1) == (done.returncode, json.loads(done.stdout)["exit"])


def test_the_test_verb_shows_the_log_of_an_application_that_fails(shell, tmp_path):
    """Its instance is gone afterwards, so what it wrote is said; without a directory of tests nothing is started."""
    project = tmp_path / "project"
    shell.run("init", project, "--kind", "fastapi")
    (project / "glasscase.lock").write_bytes((shell.directory / "glasscase.lock").read_bytes())
    (project / "pylock.toml").write_bytes((shell.directory / "pylock.toml").read_bytes())
    (project / "src" / "app" / "main.py").write_text("import os\n\nraise ValueError(os.name)\n")
    done = shell.raw("test", project)
    assert 4 == done.returncode
    assert (
        "waiting for secrets" in done.stderr
        and "ValueError" in done.stderr
        and "hint: glasscase logs" not in done.stderr
    )
    shell.run("keygen", "--kind", "package", "-o", tmp_path / "key")
    shell.run(
        "build",
        project,
        "-o",
        tmp_path / "b",
        "--package-key",
        tmp_path / "key",
        "--owner",
        shell.directory / "keys/owner.pub",
    )
    shell.run("decrypt", tmp_path / "b", "--key", tmp_path / "key", "-o", tmp_path / "clear")
    listed = sorted(path.relative_to(tmp_path / "clear").as_posix() for path in (tmp_path / "clear").rglob("*"))
    assert f"app#{listed.index('app/app/main.py')}:3" in done.stderr  # as docs/provisioning.md says
    done = shell.raw("test", project, "--tests", "none")
    assert (4, "") == (done.returncode, done.stdout)
    assert "none'" in done.stderr and "keygen" not in done.stderr
    done = shell.raw("test", tmp_path / "nowhere")
    assert 4 == done.returncode and "nowhere/glasscase.toml'" in done.stderr and "glasscase init DIR" in done.stderr


def test_a_restart_keeps_what_persist_kept(shell, serving):
    """persist = "mrenclave": after a restart the instance serves again without new secrets; another bundle is refused."""
    project = shell.directory / "glasscase.toml"
    before = project.read_text()
    project.write_text(before.replace("max_threads = 32", 'max_threads = 32\npersist = "mrenclave"'))
    try:
        built = shell.run("build", "-o", "keeping.bundle")
    finally:
        project.write_text(before)
    shell.run("sign", "keeping.bundle", "--key", "keys/enclave.pem")
    policy = (shell.directory / "policy.toml").read_text().replace(shell.bundle_id, built["bundle_id"])
    (shell.directory / "keeping.toml").write_text(policy)
    trust = ("--policy", "keeping.toml", "--bundle", "keeping.bundle", "--insecure-anchor", "root.pem")
    first = shell.run("run", "keeping.bundle", "--backend", "simulator", "--name", "keeping")
    shell.run("evidence", "keeping", "-o", "keeping.json")
    shell.run(
        "seal", "secrets.json", "--evidence", "keeping.json", *trust, "--owner-key", "keys/owner",
        "--package-key", "keys/package.key", "-o", "keeping.sealed",
    )  # fmt: skip
    shell.run("provision", "keeping", "keeping.sealed")
    again = shell.run("restart", "keeping")
    deadline = time.monotonic() + 60
    while (now := shell.run("status", "keeping"))["state"] != "serving" and time.monotonic() < deadline:
        time.sleep(0.2)

    assert "serving" == now["state"]
    assert again["pid"] != first["pid"]
    value = shell.run("get", now["url"] + "health", *trust)
    assert {"status": "ok"} == value["body_json"]
    shell.run("stop", "keeping")
    said = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "keeping", code=2)
    assert "hosting.persist.foreign" == said["error"]["id"]


@pytest.mark.long
def test_an_enclave_that_hangs_holds_up_nobody(shell, serving):
    """SIGSTOP: status still comes, evidence fails in bounded time without a file, stop ends it by SIGKILL."""
    started = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "hung")
    os.kill(started["pid"], signal.SIGSTOP)
    begun = time.monotonic()
    assert "waiting" == shell.run("status", "hung")["state"]
    assert time.monotonic() - begun < 20
    assert 4 == shell.raw("evidence", "hung", "-o", "hung.json").returncode
    assert not (shell.directory / "hung.json").exists()
    assert "killed" == shell.run("stop", "hung", "--timeout", "1")["how"]
    assert processes.identify(started["pid"]) is None
