"""docs/json.md names the keys of every verb's --json: no more and no less come."""

import json
import re
from pathlib import Path

import pytest

from glasscase.cli.commands import every_command

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.xdist_group("e2e")


def keys_by_verb():
    """Return the keys that the page gives for each verb, those with ? apart: {verb: (always, sometimes)}."""
    found = {}
    for verbs, cell in re.findall(r"^\| (`.*?) \| (.*) \|$", TEXT, re.MULTILINE):
        always, sometimes = set(), set()
        for like in re.findall(r"as `([A-Za-z ]+)`", cell):
            always |= found[like][0]
            sometimes |= found[like][1]
        outer = re.sub(r"\([^)]*\)|as `[A-Za-z ]+`|those of `[A-Z a-z]+`|or `name`.*", "", cell)
        for name in re.findall(r"`([a-z0-9_]+\??)`", outer):
            (sometimes if name.endswith("?") else always).add(name.rstrip("?"))
        for verb in re.findall(r"`([A-Za-z ]+)`", verbs):
            found[verb] = (always, sometimes)
    return found


KEYS = keys_by_verb()


def compare(verb, value):
    """Assert that an object has the keys of the page."""
    always, sometimes = KEYS[verb]

    assert always <= set(value) <= always | sometimes, verb


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
