"""collateral fetch on the command line: a file that verifies, or exit code 3 and no file."""

import json
import time

import pytest

from glasscase.cli.main import run
from glasscase.sim.pcs import BASE, Answer, PcsServer
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a directory with a quote, its root and a policy; cache and data are inside."""
    for name in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"GLASSCASE_{name}", str(tmp_path / name.lower()))
    platform = SimPlatform.open(tmp_path / "simulator")
    (tmp_path / "quote.bin").write_bytes(platform.quote(report_body(mrenclave=b"\1" * 32, mrsigner=bytes(32))))
    (tmp_path / "root.pem").write_text(platform.root_pem)
    (tmp_path / "policy.toml").write_text(
        f'version = 1\n[measurement]\nmrenclave = "{"01" * 32}"\n[freshness]\nevidence_max_age = "off"\n'
    )
    return tmp_path, platform


def fetch(folder, url, *more):
    return run([
        "collateral", "fetch", "--for", str(folder / "quote.bin"), "-o", str(folder / "collateral.json"), "--source", url,
        "--insecure-anchor", str(folder / "root.pem"), *more,
    ])  # fmt: skip


def test_what_is_fetched_verifies(place, capsys):
    """The file is our own form, is kept in the cache, and makes the quote verified."""
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        assert 0 == fetch(folder, server.url, "--json")
    value = json.loads(capsys.readouterr().out)
    verify = ["verify", str(folder / "quote.bin"), "--collateral", str(folder / "collateral.json"), "--policy",
              str(folder / "policy.toml"), "--insecure-anchor", str(folder / "root.pem")]  # fmt: skip

    assert {"tcb_info", "qe_identity", "pck_crl", "root_ca_crl"} <= {item["name"] for item in value["items"]}
    assert all(item["issued"] < item["next_update"] for item in value["items"])
    assert "glasscase-collateral" == json.loads((folder / "collateral.json").read_text())["type"]
    assert 0 == run(verify)
    assert "SIMULATED" in capsys.readouterr().out
    assert 1 == len(list((folder / "cache").rglob("53494d554c41-platform-standard.json")))


@pytest.mark.parametrize("answer", [Answer(500), Answer(302), Answer(200, b"<html>")])
def test_a_bad_server_leaves_no_file(place, capsys, monkeypatch, answer):
    """Exit code 3, an id and a hint; neither output nor cache has a new file, and an old output stays."""
    from glasscase.collateral import http

    monkeypatch.setattr(http, "BACKOFF_S", 0.001)
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        server.override[f"{BASE}/tcb"] = answer
        assert 3 == fetch(folder, server.url)
        assert not (folder / "collateral.json").exists()
        (folder / "collateral.json").write_text("old")
        assert 3 == fetch(folder, server.url)
    err = capsys.readouterr().err

    assert "[collateral.source." in err and "glasscase: hint: " in err
    assert "old" == (folder / "collateral.json").read_text()
    assert [] == list((folder / "cache").rglob("*.json"))
    assert [] == list(folder.glob(".part-*"))


def test_intels_root_refuses_the_simulators_service(place, capsys):
    """Without the insecure anchor nothing that is not signed under Intel's root is kept."""
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        code = run(["collateral", "fetch", "--for", str(folder / "quote.bin"), "-o", str(folder / "c.json"), "--source",
                    server.url])  # fmt: skip

    assert 3 == code
    assert "[collateral.source.unsigned]" in capsys.readouterr().err
    assert not (folder / "c.json").exists()


@pytest.mark.parametrize(("words", "update"), [((), "standard"), (("--early",), "early")])
def test_tcb_fetches_the_data_set_that_was_asked_for(place, capsys, words, update):
    """Both documents are asked for by channel, and what is kept of the next data set is no part of today's."""
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        code = run(["tcb", str(folder / "quote.bin"), "--source", server.url, "--insecure-anchor",
                    str(folder / "root.pem"), "--json", *words])  # fmt: skip
        asked = [path for path in server.paths if "update=" in path]
    value = json.loads(capsys.readouterr().out)

    assert (0, update, "UpToDate", True) == (code, value["update"], value["tcb_status"], value["simulated"])
    assert 2 == len(asked) and all(path.endswith(f"update={update}") for path in asked)
    assert [f"53494d554c41-platform-{update}.json"] == [path.name for path in (folder / "cache").rglob("5*.json")]


def test_tcb_says_which_data_set_it_speaks_of(place, capsys):
    """The words for people name the next data set as such."""
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        run(["tcb", str(folder / "quote.bin"), "--source", server.url, "--insecure-anchor", str(folder / "root.pem"),
             "--early"])  # fmt: skip
    out = capsys.readouterr().out

    assert "(the next)" in out
    assert out.rstrip().endswith("this says nothing about real hardware")


def test_an_early_data_set_that_is_not_there_is_no_answer(place, capsys):
    """A service without the next data set gives exit 3, not today's status under another name."""
    folder, platform = place
    with PcsServer(platform, at=int(time.time()) - 5) as server:
        server.override[f"{BASE}/tcb"] = Answer(404)
        code = run(["tcb", str(folder / "quote.bin"), "--source", server.url, "--insecure-anchor",
                    str(folder / "root.pem"), "--early", "--json"])  # fmt: skip
    value = json.loads(capsys.readouterr().out)

    assert (3, "collateral.source.refused") == (code, value["error"]["id"])
    assert "tcb_status" not in value
