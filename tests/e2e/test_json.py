"""docs/json.md names the keys of every verb's --json: no more and no less come."""

import base64
import json
import time
from pathlib import Path

import pytest

from glasscase.audit.inspection import inspect_bytes
from glasscase.auditor import load_evidence
from glasscase.cli.commands import every_command
from glasscase.codec import cbor
from glasscase.sim.pcs import PcsServer
from glasscase.sim.platform import SimPlatform
from tests.unit.cli.test_runtimes import gramine_files

from .json_keys import KEYS, KEYS_OF_KIND, compare, compare_kind

pytestmark = pytest.mark.xdist_group("e2e")


def test_every_verb_has_a_row():
    """A verb that is added has to say what it writes."""
    verbs = {name for name, _ in every_command()} - {"collateral"} | {"collateral show", "collateral fetch"}

    assert verbs == set(KEYS) - {"status NAME"}


def test_a_missing_and_an_unknown_key_are_found():
    """The test sees what it looks for."""
    compare("completion", {"shell": "", "script": ""})
    for wrong in ({"shell": ""}, {"shell": "", "script": "", "more": ""}):
        with pytest.raises(AssertionError):
            compare("completion", wrong)
    for wrong in ({"kind": "bom"}, {"kind": "bom", "components": 1, "more": ""}):
        with pytest.raises(AssertionError):
            compare_kind(wrong)


def test_keys_of_the_providers_verbs(shell, tmp_path):
    """From init to import."""
    key, bundle = "keys/package.key", "app.bundle"
    for command in (
        ("init", tmp_path / "other"),
        ("keygen", "-o", tmp_path / "key"),
        ("lock",),
        ("lock", "--check"),
        ("build", "--no-record", "-o", tmp_path / "b"),
        ("measure", bundle),
        ("measure", bundle, "--explain"),
        ("map", bundle),
        ("sign", tmp_path / "b", "--key", "keys/enclave.pem"),
        ("encrypt", "secrets.json", "--key", key, "-o", tmp_path / "enc"),
        ("decrypt", tmp_path / "enc", "--key", key, "-o", tmp_path / "dec"),
        ("disclose", bundle, "--key", key, "-o", tmp_path / "opening"),
        ("policy", bundle),
        ("policy", bundle, "-o", tmp_path / "policy"),
        ("export", bundle, "--tar", tmp_path / "tar"),
        ("import", tmp_path / "tar", "-o", tmp_path / "i.bundle"),
        ("why", bundle, bundle),
        ("reproduce", bundle),
        ("ledger", "show"),
        ("doctor",),
        ("version",),
        ("explain", "pck.leaf.revoked"),
        ("completion", "bash"),
        ("attest", bundle, "--source", ".", "--package-key", key, "--key", "keys/owner", "-o", tmp_path / "statement"),
    ):
        compare(command[0], shell.run(*command))
    compare("runtime list", shell.run("runtime", "list"))
    both = shell.run("map", "--diff", bundle, bundle)
    assert {"before", "after"} == set(both)
    for one in both.values():
        compare("map", one)


def test_keys_of_the_others_verbs(shell, serving, tmp_path):
    """What says something of an instance, its evidence and its answers."""
    trust = shell.trust
    compare("run", serving)
    compare("status NAME", shell.run("status", "main"))
    listed = shell.run("status")
    compare("status", listed)
    compare("status NAME", listed["instances"][0])
    compare("logs", shell.run("logs", "main"))
    compare("evidence", shell.run("evidence", "main", "-o", tmp_path / "e"))
    compare("verify", shell.run("verify", tmp_path / "e", *trust))
    compare("report", shell.run("report", tmp_path / "e", *trust, "-o", tmp_path / "r"))
    compare("attest", shell.run("attest", tmp_path / "e", *trust, "--key", "keys/owner", "-o", tmp_path / "s"))
    shown = shell.run("collateral", "show", tmp_path / "e")
    compare("collateral show", shown)
    (tmp_path / "c").write_text(json.dumps(json.loads((tmp_path / "e").read_text())["collateral"]))
    compare("tcb", shell.run("tcb", tmp_path / "e", "--collateral", tmp_path / "c", "--insecure-anchor", "root.pem"))
    compare("get", shell.run("get", serving["url"], *trust))
    compare("get", shell.run("get", serving["url"], *trust, "-o", tmp_path / "answer"))
    process = shell.start("proxy", serving["url"], *trust, "--listen", "127.0.0.1:0", "--json")
    compare("proxy", shell.first(process))
    process.terminate()
    process.communicate(timeout=20)
    started = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "keys")
    (tmp_path / "pem").write_text(started["insecure_anchor"])
    shell.run("evidence", "keys", "-o", tmp_path / "e2")
    own = (*trust[:-1], tmp_path / "pem")
    sealed = shell.run(
        "seal", "secrets.json", "--evidence", tmp_path / "e2", *own, "--owner-key", "keys/owner", "--package-key",
        "keys/package.key", "-o", tmp_path / "sealed",
    )  # fmt: skip
    compare("seal", sealed)
    compare("provision", shell.run("provision", "keys", tmp_path / "sealed"))
    compare("restart", shell.run("restart", "keys"))
    compare("stop", shell.run("stop", "keys"))
    failure = shell.run("stop", "nobody", code=1)

    assert ({"error", "exit"}, {"id", "message", "hint"}) == (set(failure), set(failure["error"]))


def test_keys_of_what_comes_from_elsewhere(shell, serving, tmp_path):
    """An imported Gramine, and collateral that a service gives."""
    for path, content in gramine_files().items():
        (tmp_path / "usr" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr" / path).write_bytes(content)
    compare("runtime import", shell.run("runtime", "import", tmp_path, "--version", "1.9", "--name", "keys"))
    platform = SimPlatform.open(Path(shell.environment["GLASSCASE_DATA"]) / "simulator")
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        fetched = shell.run(
            "collateral", "fetch", "--for", "main.json", "-o", tmp_path / "c", "--source", server.url, "--insecure-anchor",
            "root.pem",
        )  # fmt: skip
    compare("collateral fetch", fetched)


def test_keys_of_each_kind_of_inspect(shell, serving, tmp_path):
    """Every row of the second table, each by a file of that kind."""
    project, bundle = shell.directory, shell.directory / "app.bundle"
    shell.run("disclose", bundle, "--key", "keys/package.key", "-o", tmp_path / "opening")
    shell.run("provision", "main", "main.sealed", "-o", tmp_path / "receipt")
    shell.run("attest", "main.json", *shell.trust, "--key", "keys/owner", "-o", tmp_path / "statement")
    text = (project / "main.json").read_text()
    evidence = json.loads(text)
    collateral = evidence["collateral"]
    part = {name: base64.urlsafe_b64decode(evidence[name] + "==") for name in ("quote", "claims", "certificate")}
    root = (project / "root.pem").read_text()
    (blob, *_) = sorted((bundle / "blobs").iterdir())
    files = [
        *part.values(), text.encode(), load_evidence(text.encode()).attestation.to_bytes(), json.dumps(collateral).encode(),
        *(collateral[name].encode() for name in ("tcb_info", "qe_identity", "pck_crl_issuer_chain")),
        bytes.fromhex(collateral["pck_crl"]), blob.read_bytes(),
        cbor.encode({"v": 1, "type": "glasscase-cosign", "payload": b"", "to": bytes(32), "box": b""}),
        json.dumps({"ratls_certificate": root}).encode(), root.encode(), b'{"type": "glasscase-private"}',
        *((tmp_path / name).read_bytes() for name in ("opening", "receipt", "statement")),
        *(
            (project / name).read_bytes()
            for name in (
                "keys/package.key", "keys/owner", "keys/owner.pub", "keys/enclave.pem", "main.sealed", "policy.toml",
                "glasscase.toml", "glasscase.lock", "measurements.jsonl",
            )
        ),
        *(
            (bundle / name).read_bytes()
            for name in (
                "app.sig", "app.manifest.sgx", "bundle.json", "provenance.json", "bom.cdx.json",
                "rootfs/opt/glasscase/enclave.cbor", "rootfs/opt/glasscase/imports.txt",
            )
        ),
    ]  # fmt: skip
    described = [inspect_bytes(content) for content in files]
    for value in described:
        compare_kind(value)

    assert set(KEYS_OF_KIND) == {value["kind"] for value in described}
    compare_kind(shell.run("inspect", "app.bundle"))


def test_keys_of_real_quotes(shared):
    """SGX and TDX, with and without the chain of the PCK certificate."""
    quotes = [
        (path / "quote.bin").read_bytes()
        for path in sorted((shared / "corpus").iterdir())
        if path.name[:3] in ("sgx", "tdx", "par")
    ]
    for quote in quotes:
        compare_kind(inspect_bytes(quote))

    assert len(quotes) > 40
