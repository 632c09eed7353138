"""A new project is complete, valid, and keeps its keys out of the repository."""

import json
import shutil
import signal
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest

from glasscase.cli import main
from glasscase.cli import project as project_verbs
from glasscase.cli.output import Output
from glasscase.cli.project import KINDS


def run(*arguments):
    """Return the exit code of one command line."""
    return main.run(list(arguments))


@pytest.fixture(params=sorted(KINDS))
def project(request, tmp_path, capsys):
    """Return the directory of a new project of each kind."""
    path = tmp_path / "Fraud Api"
    code = run("init", str(path), "--kind", request.param, "--json")

    assert 0 == code
    answer = json.loads(capsys.readouterr().out)
    assert str(path) == answer["project"]
    return path


def test_the_project_file_names_app_and_keys(project):
    """glasscase.toml is valid, with a name made from the directory and the interface of the framework."""
    value = tomllib.loads((project / "glasscase.toml").read_text())

    assert "fraud-api" == value["app"]["name"]
    assert value["app"]["interface"] in ("asgi", "wsgi")
    assert "keys/package.key" == value["keys"]["package"]
    assert (project / value["app"]["source"] / "app" / "main.py").is_file()
    assert (project / value["app"]["requirements"]).is_file()
    assert 0o700 == (project / "keys").stat().st_mode & 0o777
    assert not any(
        b"@" + word in path.read_bytes()
        for word in (b"NAME@", b"ENTRY@", b"KIND@")
        for path in project.rglob("*")
        if path.is_file()
    )


def test_the_policy_names_an_enclave(project):
    """policy.toml is a policy that the verifier takes."""
    value = tomllib.loads((project / "policy.toml").read_text())

    assert 1 == value["version"]
    assert value["measurement"] == {"bundle": True}


def test_git_sees_no_key(project):
    """Private keys and secrets are ignored, public keys are not."""
    for name in ("keys/owner", "keys/package.key", "keys/enclave.pem", "keys/owner.pub", "secrets.json", "x.sealed"):
        (project / name).write_text("x")
    if shutil.which("git") is None:
        pytest.skip("no git here: what it would commit is not looked at")
    subprocess.run(["git", "init", "-q", "."], cwd=project, check=True)
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    listed = subprocess.run(["git", "ls-files"], cwd=project, check=True, capture_output=True, text=True).stdout.split()

    assert {"keys/owner.pub", "glasscase.toml", "policy.toml", "src/app/main.py", ".gitignore"} <= set(listed)
    assert not {"keys/owner", "keys/package.key", "keys/enclave.pem", "secrets.json", "x.sealed"} & set(listed)


def test_its_tests_run_without_an_enclave(project):
    """`python -m unittest` runs what needs no enclave and says what it left out."""
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "discover", "-s", "tests"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "skipped=3" in done.stderr


def test_the_application_answers(project):
    """The application of each kind scores a payment, and refuses what is none."""
    script = """
import sys; sys.path.insert(0, "src")
from app.main import app
if INTERFACE == "asgi":
    import a2wsgi
    app = a2wsgi.ASGIMiddleware(app)
import io, json
def ask(method, path, body=None):
    raw = b"" if body is None else json.dumps(body).encode()
    seen = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "x",
               "SERVER_PORT": "443", "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_TYPE": "application/json",
               "CONTENT_LENGTH": str(len(raw)), "wsgi.input": io.BytesIO(raw), "wsgi.errors": sys.stderr,
               "wsgi.url_scheme": "https", "wsgi.version": (1, 0), "wsgi.multithread": True,
               "wsgi.multiprocess": False, "wsgi.run_once": False, "HTTP_HOST": "localhost"}
    body = b"".join(app(environ, lambda status, headers, exc=None: seen.append(status)))
    return int(seen[0].split()[0]), body
status, body = ask("GET", "/health"); assert (status, json.loads(body)) == (200, {"status": "ok"}), (status, body)
status, body = ask("POST", "/score", {"amount": 90000, "hour": 2, "known_payee": False})
assert (status, json.loads(body)) == (200, {"score": 100, "stop": True}), (status, body)
for bad in ({"amount": "much"}, {"amount": -1, "hour": 1, "known_payee": True}, [], {"amount": 1, "hour": 24, "known_payee": True}):
    status, body = ask("POST", "/score", bad); assert status == 422, (status, bad)
import os; sys.stdout.flush(); os._exit(0)
"""
    interface = tomllib.loads((project / "glasscase.toml").read_text())["app"]["interface"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"INTERFACE = {interface!r}\n{script}"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr


def test_nothing_is_overwritten(tmp_path, capsys):
    """A directory with content is refused and left as it was; an empty one is used; the name must be possible."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "empty").mkdir()

    assert 1 == run("init", str(tmp_path / "full"))
    assert ["mine"] == [path.name for path in (tmp_path / "full").iterdir()]
    assert 0 == run("init", str(tmp_path / "empty"), "--kind", "flask")
    assert (tmp_path / "empty" / "glasscase.toml").is_file()
    assert 1 == run("init", str(tmp_path / "1st"))
    assert not (tmp_path / "1st").exists()
    assert 0 == run("init", str(tmp_path / "1st"), "--name", "first")
    assert "[cli.project.name]" in capsys.readouterr().err


@pytest.mark.parametrize("locked", [False, True])
def test_the_test_verb_locks_a_project_that_has_no_lock(tmp_path, locked):
    """A cloned example has no lock: `test` makes it before it builds, and leaves one that is there alone."""
    from glasscase.cli import project

    class Recorder:
        directory = tmp_path

        def __init__(self):
            self.verbs = []

        def run(self, _name, *commands):
            self.verbs += [command[0] for command in commands]
            return {"bundle_id": "00", "mrenclave": "11", "url": "https://u/", "insecure_anchor": "PEM"}

    if locked:
        (tmp_path / "glasscase.lock").touch()
    flow = Recorder()
    project._serve(flow, tmp_path)

    assert (["lock"] if not locked else []) == [verb for verb in flow.verbs if verb == "lock"]
    assert "build" == next(verb for verb in flow.verbs if verb not in ("keygen", "lock"))


@pytest.mark.parametrize(("ended", "code"), [(0, 0), (3, 3), (-signal.SIGSEGV, 139), (-signal.SIGKILL, 137)])
def test_the_exit_code_of_the_tests_is_theirs(tmp_path, monkeypatch, ended, code):
    """Whatever it is; of tests that a signal has ended it is what a shell would say."""
    out = Output(json=True, quiet=True, color="never")
    monkeypatch.setattr(project_verbs.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=ended))

    assert code == project_verbs._run_tests(out, tmp_path, "tests", "http://127.0.0.1:1")[0]
