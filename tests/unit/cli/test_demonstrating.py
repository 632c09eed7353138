"""The demo as a command like any other."""

import json

from glasscase.cli import demonstrating, main
from glasscase.cli.flow import Step, StepFailed


def test_a_demo_that_fails_says_so_as_any_verb(monkeypatch, capsys):
    """One line on stderr; with --json one object with error and exit, and beside it the steps that were reached."""

    def fail(flow, _kind):
        flow.steps += [Step("init", 0.5, True), Step("lock", 1, False)]
        raise StepFailed("lock", 3, "no index")

    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    monkeypatch.setattr(demonstrating, "_good", fail)
    code = main.run(["demo", "--json"])
    out, err = capsys.readouterr()
    value = json.loads(out)

    assert (3, 3) == (code, value["exit"])
    assert {
        "id": "cli.step.failed",
        "message": "the step lock ended with 3: no index",
        "hint": "the lines above say why",
    } == value["error"]
    assert [("init", True), ("lock", False)] == [(step["name"], step["ok"]) for step in value["steps"]]
    assert "glasscase: error: the step lock ended with 3: no index [cli.step.failed]" in err
