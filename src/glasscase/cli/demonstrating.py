"""The verb `demo`: the whole flow on the simulator, each step a command as the README shows it, and three refusals."""

import json
from pathlib import Path
from typing import Any

import click

from glasscase.cli import exitcodes
from glasscase.cli.failing import failure
from glasscase.cli.flow import Flow, reason_of, temporary_flow
from glasscase.cli.output import Output, verb
from glasscase.errors import Error

NAME = "demo"
OTHER = "demo-other"
BUNDLE = "demo.bundle"
PAYMENT = {"amount": 90000, "hour": 2, "known_payee": False}
SECRETS = {"threshold": "70"}


@verb("demo", help="Run the whole flow on the simulator in a temporary directory: SIMULATED, it protects nothing.")
@click.option(
    "--kind",
    type=click.Choice(["fastapi", "flask", "django"]),
    default="fastapi",
    show_default=True,
    help="The framework of the application.",
)
def demo(out: Output, kind: str) -> int:
    """Run every step, print MRENCLAVE, the answer and the refusals; leave nothing behind."""
    out.say("SIMULATED  no enclave here: the simulator has its own root, and what it says protects nothing")
    value: dict[str, Any] = {"simulated": True, "notice": "SIMULATED"}
    with temporary_flow(out) as flow:
        flow.steps_are_result = True
        try:
            value |= _good(flow, kind)
            value["refusals"] = _refusals(flow)
            _end(flow)
        except Error as error:
            if out.json:  # what was reached stands beside the error
                out.result({**value, "steps": [step.to_json() for step in flow.steps], **failure(error)}, "")
            raise
        value["steps"] = [step.to_json() for step in flow.steps]
    out.result(value, _text(value))
    return exitcodes.OK


def _good(flow: Flow, kind: str) -> dict[str, Any]:
    """Run the flow of the README up to the application's answer."""
    project = flow.directory / NAME
    flow.run("init", ("init", str(project), "--kind", kind), note=kind)
    flow.directory = project
    flow.run(
        "keygen",
        ("keygen", "--kind", "package", "-o", "keys/package.key"),
        ("keygen", "--kind", "owner", "-o", "keys/owner"),
        ("keygen", "--kind", "enclave", "-o", "keys/enclave.pem"),
        note="package, owner, enclave",
    )
    flow.run("lock", ("lock",), note="every input by SHA-256")
    built = flow.run("build", ("build", "-o", BUNDLE), note="mrenclave")
    flow.run("sign", ("sign", BUNDLE, "--key", "keys/enclave.pem"), note="mrsigner")
    started = flow.run("run", ("run", BUNDLE, "--backend", "simulator", "--name", NAME), note="url")
    (project / "root.pem").write_text(started["insecure_anchor"], encoding="ascii")
    flow.run("evidence", ("evidence", NAME, "-o", "evidence.json"), note="evidence_id")
    trust = ("--policy", "policy.toml", "--bundle", BUNDLE, "--insecure-anchor", "root.pem")
    flow.run("verify", ("verify", "evidence.json", *trust), note="status")
    _write_secrets(project)
    flow.run("seal", _seal_command(trust), note="id")
    flow.run("provision", ("provision", NAME, "secrets.sealed"), note="state")
    url = started["url"]
    answer = flow.run(
        "get",
        ("get", url + "score", *trust, "-H", "Content-Type: application/json", "--data", json.dumps(PAYMENT)),
        note="body",
    )
    flow.run("status", ("status", NAME), note="state")
    flow.run("logs", ("logs", NAME))
    return {"mrenclave": built["mrenclave"], "url": url, "answer": answer.get("body")}


def _seal_command(trust: tuple[str, ...]) -> tuple[str, ...]:
    return (
        "seal", "secrets.json", "--evidence", "evidence.json", *trust, "--owner-key", "keys/owner",
        "--package-key", "keys/package.key", "-o", "secrets.sealed",
    )  # fmt: skip


def _write_secrets(project: Path) -> None:
    from glasscase.fs.atomic import write_file

    write_file(project / "secrets.json", json.dumps(SECRETS).encode("utf-8"), mode=0o600)


def _refusals(flow: Flow) -> list[dict[str, str]]:
    """Show that other code, another root and another instance get nothing."""
    project = flow.directory
    found = []
    source = project / "src" / "app" / "scoring.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# one more line\n", encoding="utf-8")
    flow.run("build of changed code", ("build", "-o", "changed.bundle"), ("sign", "changed.bundle", "--key", "keys/enclave.pem"),
             note="mrenclave")  # fmt: skip
    evidence = ("verify", "evidence.json", "--policy", "policy.toml")
    value = flow.run(
        "refuse a changed bundle", (*evidence, "--bundle", "changed.bundle", "--insecure-anchor", "root.pem"), expect=2
    )
    found.append({"name": "changed bundle", "reason": reason_of(value)})
    value = flow.run("refuse a forged root", (*evidence, "--bundle", BUNDLE), expect=2)
    found.append({"name": "forged root", "reason": reason_of(value)})
    flow.run("run of another instance", ("run", BUNDLE, "--backend", "simulator", "--name", OTHER), note="url")
    value = flow.run("refuse a replayed envelope", ("provision", OTHER, "secrets.sealed"), expect=2)
    found.append({"name": "replayed envelope", "reason": reason_of(value)})
    return found


def _end(flow: Flow) -> None:
    flow.run("stop", ("stop", NAME), ("stop", OTHER), note="state")


def _text(value: dict[str, Any]) -> str:
    lines = [
        f"MRENCLAVE {value['mrenclave']}",
        f"answer    {value['answer']}",
        *(f"refused   {row['name']} [{row['reason']}]" for row in value["refusals"]),
        "SIMULATED all of it: no SGX was used, nothing was protected",
    ]
    return "\n".join(lines)
