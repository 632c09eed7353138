"""verify, policy, collateral show and explain on the command line: exit codes, one JSON object, error and hint, no socket."""

import json
import os
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from glasscase.cli.main import run
from glasscase.verify.catalog import OWN

CASE = "sgx3-00606a000000-c81a90-2407"  # SWHardeningNeeded, one advisory
ANY = """version = 1
[measurement]
insecure_any = true
[platform]
accept = ["UpToDate", "SWHardeningNeeded"]
advisories = ["any"]
[freshness]
collateral_max_age = "36500d"
crl_max_age = "36500d"
evidence_max_age = "off"
"""


class Desk:
    """One corpus case on disk and the command line."""

    def __init__(self, shared, tmp_path, capsys):
        self.folder = shared / "corpus" / CASE
        self.at = json.loads((self.folder / "expected.json").read_text())["checks"][0]["at"]
        self.quote = str(self.folder / "quote.bin")
        self.collateral = str(self.folder / "collateral.json")
        self.tmp_path = tmp_path
        self._capsys = capsys

    def write(self, name, content):
        path = self.tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def policy(self, text=ANY):
        return self.write("policy.toml", text)

    def run(self, *arguments):
        """Return exit code, stdout and stderr."""
        code = run([str(argument) for argument in arguments])
        out, err = self._capsys.readouterr()
        return code, out, err

    def verify(self, *more, policy=ANY):
        return self.run(
            "verify",
            self.quote,
            "--collateral",
            self.collateral,
            "--policy",
            self.policy(policy),
            "--at",
            self.at,
            *more,
        )


@pytest.fixture
def desk(shared, tmp_path, capsys, monkeypatch):
    """Return the desk; the command line may open no socket."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return Desk(shared, tmp_path, capsys)


def test_a_genuine_quote_is_verified(desk):
    """Exit 0, the summary for people, nothing on stderr."""
    code, out, err = desk.verify()

    assert (0, "") == (code, err)
    assert "VERIFIED  as of 20" in out and "valid until" in out
    for line in ("PASS  measurement", "PASS  signatures", "PASS  revocation", "PASS  platform", "PASS  enclave"):
        assert line in out
    assert "SIMULATED" not in out


def test_json_has_the_keys_of_the_contract(desk):
    """One object with every key, every check, and Intel's status."""
    code, out, _ = desk.verify("--json")
    value = json.loads(out)

    assert 0 == code
    assert {
        "status", "at", "anchor", "engine", "mrenclave", "tcb_status", "advisories", "checks", "failed", "not_checked",
        "valid_until",
    } <= value.keys()  # fmt: skip
    assert ("verified", "intel", "native", "SWHardeningNeeded", []) == (
        value["status"], value["anchor"], value["engine"], value["tcb_status"], value["failed"],
    )  # fmt: skip
    assert {"id", "outcome", "observed", "expected", "source", "anchor"} == value["checks"][0].keys()
    assert set(OWN) <= {check["id"] for check in value["checks"]}
    assert "notice" not in value


def test_the_three_failures_of_the_transcripts(desk):
    """Other code: 2. Stale collateral: 3. A platform below what is accepted: 2. Each with an id and a hint."""
    strict = ANY.replace("insecure_any = true", f'mrenclave = "{"00" * 32}"')
    stale = ANY.replace('collateral_max_age = "36500d"', 'collateral_max_age = "1s"')
    low = ANY.replace(', "SWHardeningNeeded"', "")
    for policy, code, name in (
        (strict, 2, "policy.mrenclave.unlisted"),
        (stale, 3, "collateral.tcbinfo.stale"),
        (low, 2, "platform.tcb.sw_hardening_needed"),
    ):
        found, out, err = desk.verify(policy=policy)
        first, second = err.splitlines()[:2]

        assert code == found
        assert first.startswith("glasscase: error: ") and first.endswith(f"[{name}]")
        assert second.startswith("glasscase: hint: ")
        assert ("FAILED" if code == 2 else "UNDETERMINED") in out
        assert f"[{name}]" in out


def test_without_policy_the_facts_are_shown_and_nothing_is_decided(desk):
    """No policy: exit 3, the measurement and the platform's status in the output."""
    code, out, err = desk.run("verify", desk.quote, "--collateral", desk.collateral, "--at", desk.at)

    assert 3 == code
    assert "[policy.identity.unset]" in err
    assert "SWHardeningNeeded" in out and "UNDETERMINED" in out
    assert Path(desk.quote).read_bytes()[112:144].hex() in out


def test_a_raw_quote_without_collateral_is_undetermined(desk):
    """No collateral: exit 3, and no socket was opened."""
    code, _, err = desk.run("verify", desk.quote, "--policy", desk.policy(), "--at", desk.at)

    assert 3 == code
    assert ".missing]" in err and "glasscase collateral fetch" in err


@pytest.mark.parametrize("at", ["2024-07-24T12:00:00Z", "2024-07-24T14:00:00+02:00", "1721822400"])
def test_times_in_each_form(desk, at):
    """RFC 3339 with any zone and unix seconds name the same instant."""
    code, out, _ = desk.run("verify", desk.quote, "--collateral", desk.collateral, "--policy", desk.policy(), "--json",
                            "--at", at)  # fmt: skip

    assert "2024-07-24T12:00:00Z" == json.loads(out)["at"]
    assert code in (0, 2, 3)


@pytest.mark.parametrize("at", [
    "yesterday", "2024-07-24", "2024-07-24T12:00:00", "2024-W30-3", "1e9", "-1", "2024-13-01T00:00:00Z", "\u0661",
    "2024-07-24T25:00:00Z", "2024-07-24T24:00:00Z", "2024-07-24T12:00:00+24:00", "99999999999999", "253402300800",
    "9999-12-31T23:59:59-00:01", "1970-01-01T00:00:00Z", "0", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00",
])  # fmt: skip
def test_other_times_are_usage_errors(desk, at):
    """A time without a zone, another spelling or an impossible date is refused."""
    code, out, err = desk.run("verify", desk.quote, f"--at={at}")

    assert (1, "") == (code, out)
    assert f"{at!r} is not a time between 1970-01-01T00:00:01Z and the year 9999 [cli.time.malformed]" in err
    assert "hint: 2026-11-24T20:00:00Z or unix seconds" in err


def test_midnight_at_the_end_of_a_day_is_refused_whatever_python_takes(desk, monkeypatch):
    """RFC 3339 has no hour 24; a Python whose reader has one gives no other answer."""

    class Lenient(datetime):
        @classmethod
        def fromisoformat(cls, text):
            return datetime.fromisoformat(text.replace("T24:", "T23:"))

    monkeypatch.setattr("datetime.datetime", Lenient)
    code, _, err = desk.run("verify", desk.quote, "--at=2024-07-24T24:00:00Z")

    assert (1, True) == (code, "[cli.time.malformed]" in err)


def test_the_missing_engine_is_no_verdict(desk, monkeypatch):
    """Asking for an engine that cannot be loaded ends undetermined, never with the other engine's answer."""
    monkeypatch.setitem(sys.modules, "glasscase.verify.intel", None)
    for engine in ("intel", "both"):
        code, out, err = desk.verify("--engine", engine, "--json")
        value = json.loads(out)

        assert (3, "undetermined", engine) == (code, value["status"], value["engine"])
        assert ["engine.intel.unavailable"] == value["failed"]
        assert "[engine.intel.unavailable]" in err


def test_a_nonce_is_64_digits_and_must_match(desk):
    """A malformed nonce is a usage error; one that the quote does not hold fails."""
    assert 1 == desk.verify("--nonce", "00")[0]
    for nonce in ("01" * 32, "00" * 32):  # zeros are the report data of an enclave that says nothing
        code, _, err = desk.verify("--nonce", nonce)
        assert 2 == code
        assert "[freshness.nonce.mismatch]" in err


BAD = {
    "empty": (b"", {2}),
    "random": (bytes(range(7, 250)) * 20, {2}),
    "text": (b"hello, this is not a quote\n" * 40, {2}),
    "json": (b'{"a": 1}', {2}),
    "cbor": (b"\xa1\x61\x61\x01", {2}),
    "quote header": (b"\x03\x00\x02\x00" + bytes(400), {2}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_error_line_with_id_and_hint(desk, name):
    """A file of the wrong kind: the exit code of the contract, an id, a hint, no traceback."""
    content, codes = BAD[name]
    code, _, err = desk.run("verify", desk.write("input", content), "--policy", desk.policy(), "--at", desk.at)

    check_error(code, err, codes)


@pytest.mark.parametrize(("path", "codes"), [("/dev/zero", {2}), ("/", {4}), ("/nonexistent/file", {4})])
def test_bad_paths(desk, path, codes):
    """A device without end, a directory and a missing file."""
    for verb in (["verify", path, "--policy", desk.policy()], ["inspect", path], ["collateral", "show", path]):
        code, _, err = desk.run(*verb)

        check_error(code, err, codes)


def check_error(code, err, codes):
    lines = err.splitlines()

    assert code in codes
    assert 1 == sum(line.startswith("glasscase: error: ") for line in lines)
    assert lines[0].endswith("]") and lines[1].startswith("glasscase: hint: ")
    assert "Traceback" not in err


@pytest.mark.parametrize("option", ["--policy", "--collateral", "--insecure-anchor", "--bundle", "--statement"])
def test_bad_files_in_options(desk, option):
    """Garbage, an empty file and a missing file as an option end with an id, not with a verdict."""
    for content in (b"", b"\0garbage\xff" * 9, None):
        path = desk.write("bad", content) if content is not None else "/nonexistent/file"
        if option == "--bundle" and content is not None:
            continue
        code, out, err = desk.verify(option, path)
        if option == "--statement" and content is not None:
            continue  # statements belong to evidence

        assert code in (2, 4) or (option == "--statement" and code == 0)
        if code:
            assert "" == out and "glasscase: error: " in err and "Traceback" not in err


def test_stdin_is_read(desk):
    """`-` names standard input."""
    command = [sys.executable, "-m", "glasscase", "verify", "-", "--collateral", desk.collateral, "--policy",
               desk.policy(), "--at", str(desk.at), "--json"]  # fmt: skip
    done = subprocess.run(command, input=Path(desk.quote).read_bytes(), capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stderr)
    assert "verified" == json.loads(done.stdout)["status"]


def test_collateral_show_names_every_item(desk):
    """The items have dates; a damaged file is refused."""
    code, out, _ = desk.run("collateral", "show", desk.collateral, "--json")
    items = {item["name"]: item for item in json.loads(out)["items"]}

    assert 0 == code
    assert {"root_ca_crl", "pck_crl", "tcb_info", "qe_identity", "tcb_info_signer", "pck_crl_ca"} <= items.keys()
    windows = json.loads((desk.folder / "expected.json").read_text())["windows"]
    for name in ("root_ca_crl", "pck_crl", "tcb_info", "qe_identity"):
        assert windows[name] == [items[name]["issued"], items[name]["next_update"]]
    assert 2 == desk.run("collateral", "show", desk.write("bad", b"{}"))[0]
    assert 1 == desk.run("collateral", "show")[0]
    for option in ("--for", "-o", "--insecure-anchor"):  # nothing is fetched, written or checked by show
        assert 1 == desk.run("collateral", "show", desk.collateral, option, "x")[0]
    assert 1 == desk.run("collateral", "fetch", "--for", desk.quote)[0]


def test_explain_prints_meaning_and_remedy(desk):
    """Every id of the verifier is explained; an unknown one is a usage error with the nearest."""
    for name in ("pck.leaf.revoked", "collateral.tcbinfo.stale", "policy.mrenclave.mismatch"):
        code, out, _ = desk.run("explain", name, "--json")
        value = json.loads(out)
        assert (0, name) == (code, value["id"])
        assert value["message"] and value["remedy"] and value["source"]
    code, _, err = desk.run("explain", "pck.leaf")
    assert 1 == code
    assert "pck.leaf.revoked" in err or "pck.leaf." in err


def test_untrusted_text_is_escaped(desk):
    """Terminal escapes in a file never reach the terminal."""
    statement = json.dumps({"tcbInfo": {"id": "\x1b[31mred\u202e", "version": 3}, "signature": "00"})
    code, out, err = desk.run("inspect", desk.write("x.json", statement))

    assert 0 == code
    assert "\x1b" not in out + err and "\u202e" not in out + err


NOT_ON_START = ("cryptography", "msgspec", "urllib3", "rich", "nacl", "installer", "elftools", "packaging", "asyncio",
                    "ssl", "http", "socket", "email", "unittest", "logging", "shutil")  # fmt: skip


def test_start_up_imports_little(desk):
    """`glasscase verify` of a raw quote as a new process imports none of the heavy libraries that it does not need."""
    code = (
        "import sys; from glasscase.cli.main import run; code = run(sys.argv[1:]);"
        "sys.stderr.write(' '.join(sorted({name.partition('.')[0] for name in sys.modules}))); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "verify", desk.quote, "--collateral", desk.collateral, "--policy",
               desk.policy(), "--at", str(desk.at)]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    loaded = set(done.stderr.split())

    assert 0 == done.returncode
    assert set() == loaded & set(NOT_ON_START)
    assert "glasscase" in loaded and "click" in loaded


@pytest.mark.parametrize("change", [
    ["-O"], ["-OO"], ["-W", "error"], {"TZ": "Pacific/Kiritimati"}, {"TZ": "America/St_Johns"}, {"LC_ALL": "C"},
    {"OPENSSL_CONF": "/nonexistent/openssl.cnf"}, {"PYTHONHASHSEED": "1"}, {"SSL_CERT_FILE": "/dev/null"},
    {"GLASSCASE_POLICY": "any", "GLASSCASE_ANCHOR": "any", "SOURCE_DATE_EPOCH": "0"},
], ids=str)  # fmt: skip
def test_no_surrounding_changes_a_verdict(desk, change):
    """Optimisation, warnings, time zone, locale and environment leave every byte of the verdict as it is."""
    options, environment = (change, {}) if isinstance(change, list) else ([], change)
    base = [desk.quote, "--collateral", desk.collateral, "--policy", desk.policy(), "--at", str(desk.at), "--json"]
    _, wanted, _ = desk.run("verify", *base)
    done = subprocess.run(
        [sys.executable, *options, "-m", "glasscase", "verify", *base], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip

    assert (0, "", wanted) == (done.returncode, done.stderr, done.stdout)


@pytest.mark.parametrize("at", [
    "1970-01-01T00:00:01Z", "2038-01-19T03:14:08Z", "2038-01-20T00:00:00Z", "2050-01-01T00:00:00Z", "2050-01-02T00:00:00Z",
    "2106-02-07T06:28:16Z", "9999-12-31T23:59:59Z",
])  # fmt: skip
def test_far_times_are_judged_and_refused(desk, at):
    """Times around the ends of calendars and of 32 bits give a verdict, never an accident."""
    code, out, err = desk.run("verify", desk.quote, "--collateral", desk.collateral, "--policy", desk.policy(), "--at", at,
                              "--json")  # fmt: skip
    value = json.loads(out)

    assert code in (2, 3) and value["status"] != "verified"
    assert at == value["at"]
    assert any(name.endswith((".expired", ".not_yet_valid")) for name in value["failed"])
    assert "Traceback" not in err


def without_at(desk, monkeypatch, now, collateral=None):
    monkeypatch.setattr("glasscase.cli.clock.time.time", lambda: float(now))
    return desk.run("verify", desk.quote, "--collateral", collateral or desk.collateral, "--policy", desk.policy())


@pytest.mark.parametrize("back", [600, 10 * 86_400, 20 * 365 * 86_400, None])
def test_a_clock_behind_the_collateral_decides_nothing(desk, monkeypatch, back):
    """A clock before the issue of signed collateral, in 1970 too, is refused as such: exit 3, no verdict is shown."""
    tcb_info = json.loads(json.loads((desk.folder / "collateral.json").read_text())["tcb_info"])["tcbInfo"]
    issued = datetime.fromisoformat(tcb_info["issueDate"]).timestamp()
    code, out, err = without_at(desk, monkeypatch, 3600 if back is None else issued - back)
    lines = err.splitlines()

    assert (3, "") == (code, out)
    assert lines[0].startswith("glasscase: warning: this machine's clock says ")
    assert lines[1].startswith("glasscase: error: clock behind collateral: ") and lines[1].endswith(
        "[cli.clock.behind]"
    )
    assert lines[2].startswith("glasscase: hint: correct the clock")


def test_forged_collateral_says_nothing_of_the_clock(desk, monkeypatch):
    """A date in a document whose signature does not hold is no sign of a wrong clock: the verdict fails."""
    items = json.loads((desk.folder / "collateral.json").read_text())
    for name in ("tcb_info", "qe_identity"):
        items[name] = items[name].replace('"issueDate":"20', '"issueDate":"29')
    code, out, err = without_at(desk, monkeypatch, desk.at, desk.write("forged.json", json.dumps(items)))

    assert 2 == code
    assert "FAILED" in out and "bad_signature" in out
    assert "cli.clock.behind" not in err


def test_a_right_clock_is_taken_without_a_word(desk, monkeypatch):
    """Without --at the clock is the time of the verdict; only one from before this version is warned of."""
    code, out, err = without_at(desk, monkeypatch, desk.at)

    assert (0, 1) == (code, len(err.splitlines()))
    assert err.startswith("glasscase: warning: this machine's clock says ")
    monkeypatch.setattr("glasscase.cli.clock.RELEASED", desk.at)
    assert (0, out, "") == without_at(desk, monkeypatch, desk.at)


def test_an_intel_library_that_is_none_is_no_verdict(desk):
    """A path that holds no library makes the engine unavailable, exit 3, and is what is complained of: no other was looked for."""
    for path in (desk.collateral, "/nonexistent.so", "libc.so.6"):
        code, out, err = desk.verify("--engine", "both", "--intel-library", path, "--json")

        assert (3, ["engine.intel.unavailable"]) == (code, json.loads(out)["failed"])
        assert f"({path!r} cannot be loaded, or is not Intel's library)" in err


class TestTcb:
    """`tcb` says where a platform stands; it says nothing about what is not genuine."""

    def ask(self, case, capsys, *words):
        code = run(["tcb", str(case / "quote.bin"), "--collateral", str(case / "collateral.json"), "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    def test_what_is_lacking(self, shared, capsys):
        """Status, shortfall and advisories are those of the corpus's case, whatever the enclave is."""
        code, value = self.ask(
            shared / "corpus" / "sgx3-00606a000000-b7ab1c-2508", capsys, "--at", "2025-08-20T00:00:00Z"
        )

        assert (0, "OutOfDate", 17) == (code, value["tcb_status"], value["evaluation"])
        assert [{"component": 0, "own": 11, "needed": 14}, {"component": 1, "own": 11, "needed": 14}] == value[
            "shortfall"
        ]
        assert "INTEL-SA-00828" in value["advisories"]

    @pytest.mark.parametrize(("name", "at", "answer"), [
        ("sgx3-00606a000000-b7ab1c-2508", "2026-08-20T00:00:00Z", (3, "crl.root.expired")),
        ("odd-mrenclave-bit-plat", "1684165720", (2, "quote.body.bad_signature")),
    ])  # fmt: skip
    def test_nothing_is_said_of_what_is_not_genuine(self, shared, capsys, name, at, answer):
        """Old collateral gives 3, a broken quote 2; no status is shown."""
        code, value = self.ask(shared / "corpus" / name, capsys, "--at", at)

        assert answer == (code, value["error"]["id"])
        assert "tcb_status" not in value

    @pytest.mark.parametrize(("now", "answer"), [
        (1755648000 - 30 * 86_400, (3, "cli.clock.behind")), (3600, (3, "cli.clock.behind")), (1755648000, (0, None)),
    ])  # fmt: skip
    def test_a_clock_behind_the_data_set_says_nothing(self, shared, capsys, monkeypatch, now, answer):
        """Without --at a clock before the issue of the signed data set is refused as such, as by verify."""
        monkeypatch.setattr("glasscase.cli.clock.time.time", lambda: float(now))
        code, value = self.ask(shared / "corpus" / "sgx3-00606a000000-b7ab1c-2508", capsys)

        assert answer == (code, value["error"]["id"] if "error" in value else None)
        assert ("tcb_status" in value) == (code == 0)

    def test_a_time_that_was_given_is_no_clock(self, shared, capsys):
        """--at before the issue is an answer about that time, not about this machine's clock."""
        code, value = self.ask(shared / "corpus" / "sgx3-00606a000000-b7ab1c-2508", capsys, "--at", "1753056000")

        assert 3 == code
        assert value["error"]["id"].endswith(".not_yet_valid")

    def test_early_takes_no_data_set(self, shared, capsys):
        """--early cannot be combined with a data set that is given."""
        code, value = self.ask(shared / "corpus" / "mix-fmspc-plat", capsys, "--early")

        assert (1, "cli.usage.wrong") == (code, value["error"]["id"])


def test_what_is_neither_evidence_nor_a_quote_gets_a_hint(tmp_path, shared, capsys):
    """A file of another kind is judged as a quote; the hint says how to find out what it is."""
    desk = Desk(shared, tmp_path, capsys)
    code, _, err = desk.run(
        "verify", desk.write("odd", "-----BEGIN CERTIFICATE-----\n" * 60), "--policy", desk.policy()
    )

    assert 2 == code
    assert "glasscase inspect" in err


@pytest.mark.parametrize("content", ['{"url": "https://127.0.0.1:1/"}', '{"v": 1, "type": "glasscase-collateral"}'])
def test_a_json_file_that_is_no_evidence_says_how_to_find_out(desk, content):
    """Who gives run.json or collateral for evidence is told of inspect; a policy of that kind gets no such hint."""
    wrong = desk.write("run.json", content)
    code, _, err = desk.run("verify", wrong, "--policy", desk.policy())

    assert 2 == code
    assert f"glasscase inspect {wrong}" in err
    assert "glasscase inspect" not in desk.verify(policy="version = 'x'\n[measurement]\n")[2]
