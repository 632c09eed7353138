"""`get` on the command line: what a verified enclave answers comes whole or is said not to be."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from glasscase.cli.main import run

from .conftest import MRENCLAVE

HEAD = b"HTTP/1.1 200 OK\r\n"
WHOLE = {
    "length": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
}
CUT = {
    "length": HEAD + b"Content-Length: 6\r\n\r\nhello",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n6\r\nhello",
    "no length": HEAD + b"\r\nhello",
}


@pytest.fixture
def ask(serve, identity, platforms, collateral, tmp_path):
    """Return a function(answer, *words) -> exit code of a get from a server that answers so and cuts the connection."""
    (tmp_path / "root.pem").write_text(platforms[0].root_pem)
    (tmp_path / "collateral.json").write_bytes(collateral.to_bytes())
    (tmp_path / "policy.toml").write_text(
        f'version = 1\n[measurement]\nmrenclave = "{MRENCLAVE.hex()}"\n[platform]\nplatforms = ["any-intel"]\n'
    )

    def get(answer, *words, path="", server=None):
        server = server or serve(identity(), answer=answer, hang_up=True)
        return run(["get", server.url + path, "--policy", str(tmp_path / "policy.toml"), "--insecure-anchor",
                    str(tmp_path / "root.pem"), "--collateral-source", str(tmp_path / "collateral.json"), *words])  # fmt: skip

    return get


@pytest.mark.parametrize("form", WHOLE)
def test_a_whole_answer_is_written(ask, tmp_path, capsysbinary, form):
    """With a length or in chunks the answer has an end, and what comes after it does not matter."""
    assert 0 == ask(WHOLE[form])
    assert b"hello" == capsysbinary.readouterr().out
    assert 0 == ask(WHOLE[form], "-o", str(tmp_path / "out"))
    assert b"hello" == (tmp_path / "out").read_bytes()


@pytest.mark.parametrize("form", CUT)
def test_a_cut_answer_is_no_answer(ask, tmp_path, capsys, form):
    """Whoever is on the way can end a connection: that is exit 4, with no file, and an old one stays."""
    (tmp_path / "out").write_bytes(b"old")
    assert 4 == ask(CUT[form], "-o", str(tmp_path / "out"))
    assert b"old" == (tmp_path / "out").read_bytes()
    assert "[client.response.truncated]" in capsys.readouterr().err
    assert 4 == ask(CUT[form], "--json")
    assert "client.response.truncated" == json.loads(capsys.readouterr().out)["error"]["id"]
    assert 4 == ask(CUT[form])


@pytest.mark.parametrize(
    ("words", "path"),
    [(("-X", "G\r\nX: y"), ""), (("-X", "\udcff"), ""), (("-X", ""), ""), (("-H", "X: \u20ac"), ""), (("-H", "\u00e9: x"), ""),
     (("--timeout", "9" * 20), ""), ((), "caf\u00e9"), ((), "?q=\u20ac")],
)  # fmt: skip
def test_what_a_request_cannot_carry_is_refused(ask, capsys, words, path):
    """Methods, headers and paths that HTTP has no form for are usage errors before anything is sent."""
    assert 1 == ask(WHOLE["length"], *words, path=path)
    assert "[cli.usage.wrong]" in (err := capsys.readouterr().err) or "[client.url.malformed]" in err


@pytest.mark.parametrize("host", ["a..b", "a" * 64, ".a", "[::1]a", "a[::1]", "[v1.a]"])
@pytest.mark.parametrize("verb", [["get"], ["proxy", "--listen", "127.0.0.1:0"]], ids=lambda words: words[0])
def test_a_host_that_no_name_can_be_is_refused(capsys, verb, host):
    """A label that is empty or longer than 63 letters is a usage error, not Python's; so is what stands beside brackets."""
    assert 1 == run([*verb, f"https://{host}:8443/", "--policy", "policy.toml"])
    assert "[client.url.malformed]" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["get"], ["proxy", "--listen", "127.0.0.1:0"]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    "url", ["https://me:s%25cret@h:8443/", "https://me:se/cret@h/", "me:se cret@h", "https://me:s\u20accret@h:x/"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(capsys, verb, url):
    """Nothing takes it, and messages end in logs."""
    assert 1 == run([*verb, url, "--policy", "policy.toml"])
    assert "[client.url.malformed]" in (err := capsys.readouterr().err) and "cret" not in err and "me:" not in err


def test_a_body_may_be_any_bytes(ask, capsysbinary):
    """-d sends the bytes of the argument, UTF-8 or not."""
    assert 0 == ask(WHOLE["length"], "-d", "\udcff\r\n\r\n")
    assert b"hello" == capsysbinary.readouterr().out


def test_every_part_of_a_body_is_sent(ask, serve, identity, tmp_path):
    """-d is repeatable as with curl: nothing that was given is left out, and a file goes as it is."""
    (tmp_path / "part").write_bytes(b"b=\r\n2")
    server = serve(identity(), answer=WHOLE["length"])
    assert 0 == ask(None, "-d", "a=1", "-d", f"@{tmp_path / 'part'}", "-d", "\r\n\r\n", server=server)
    assert server.carried().endswith(b"\r\n\r\na=1&b=\r\n2&\r\n\r\n")


def test_every_header_is_sent(ask, serve, identity):
    """-H is repeatable, also with one name: no value takes the place of another."""
    server = serve(identity(), answer=WHOLE["length"], hang_up=True)
    assert 0 == ask(None, "-H", "X-Word: one", "-H", "X-Word: two", "-H", "Accept: text/plain", server=server)
    sent = server.carried().lower()
    assert [b"x-word: one", b"x-word: two"] == [line for line in sent.split(b"\r\n") if line.startswith(b"x-word")]
    assert b"accept: text/plain" in sent


def test_a_redirect_is_not_followed(ask, serve, identity, capsys):
    """Where an answer points is shown; nobody but the verified enclave is connected to."""
    there = serve(identity())
    here = serve(identity(), answer=HEAD.replace(b"200 OK", b"307 Moved") + b"Content-Length: 0\r\nLocation: "
                 + there.url.encode("ascii") + b"\r\n\r\n", hang_up=True)  # fmt: skip
    assert 0 == ask(None, "--json", "-d", "word", server=here)
    found = json.loads(capsys.readouterr().out)
    assert (307, there.url) == (found["status"], found["headers"]["location"])
    assert (0, b"") == (there.connections, there.received)


def test_no_proxy_of_the_environment_is_used(ask, monkeypatch, capsysbinary):
    """get goes straight to the enclave, whatever HTTPS_PROXY says."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert 0 == ask(WHOLE["length"])
    assert b"hello" == capsysbinary.readouterr().out


@pytest.mark.parametrize("when", ["in the handshake", "after the request", "in the body"])
def test_silence_ends_with_the_timeout(ask, serve, identity, capsys, when):
    """--timeout bounds each wait: for the handshake, for the answer, and within it."""
    start = time.monotonic()
    if when == "in the handshake":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            server = type("Silent", (), {"url": f"https://127.0.0.1:{silent.getsockname()[1]}/"})
            assert 4 == ask(None, "--timeout", "1", server=server)
    else:
        answer = b"" if when == "after the request" else HEAD + b"Content-Length: 6\r\n\r\nhello"
        assert 4 == ask(None, "--timeout", "1", server=serve(identity(), answer=answer))
    assert 0.9 < time.monotonic() - start < 8
    assert "[client.enclave.unreachable]" in capsys.readouterr().err


def test_a_server_without_tls_is_not_said_to_be_silent(ask, capsys):
    """Another server on the port, as one of plain HTTP, has answered; what it lacks is TLS."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_answer_in_clear, args=(plain,), daemon=True).start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}/"
        assert 4 == ask(None, server=type("Plain", (), {"url": url}))
    words = capsys.readouterr().err

    assert "does not speak TLS 1.3 with us: wrong version number [client.enclave.unreachable]" in words
    assert "does not answer" not in words and "_ssl.c" not in words


def _answer_in_clear(server):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_full_or_closed_stdout_is_no_fault_of_the_enclave(ask, tmp_path, serve, identity):
    """What stdout refuses is said of stdout (exit 4), and a reader that has gone away is exit 5, as for every verb."""
    server = serve(identity(), answer=WHOLE["length"], hang_up=True)
    ask(None, server=server)  # the files of the options
    words = [sys.executable, "-m", "glasscase", "get", server.url, "--policy", "policy.toml", "--insecure-anchor", "root.pem",
             "--collateral-source", "collateral.json"]  # fmt: skip
    with open("/dev/full", "wb") as full:
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert (4, True) == (result.returncode, b"'stdout': no space left on device [fs.file.full]" in result.stderr)
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    os.close(writing)
    assert (5, False) == (result.returncode, b"error" in result.stderr)


def test_a_place_that_takes_no_file_is_found_before_anything_is_sent(ask, serve, identity, tmp_path, capsys):
    """-o of a directory, or below none, ends before the request: what the application does is not done in vain."""
    for place, code in (("", 4), ("none/out", 4)):
        server = serve(identity(), answer=WHOLE["length"], hang_up=True)
        assert code == ask(None, "-d", "pay", "-o", str(tmp_path / place), server=server)
        assert b"" == server.received
        assert "[fs.file." in capsys.readouterr().err


def test_a_reset_of_the_connection_is_not_said_of_the_file(ask, serve, identity, tmp_path, capsys):
    """With -o too an enclave that falls silent, or is refused, is the enclave's matter, and no file is left."""
    silent = serve(identity(), answer=HEAD + b"Content-Length: 6\r\n\r\nhello")
    assert 4 == ask(None, "--timeout", "1", "-o", str(tmp_path / "out"), server=silent)
    assert "[client.enclave.unreachable]" in capsys.readouterr().err
    assert 2 == ask(None, "-o", str(tmp_path / "out"), server=serve(identity(flags=7), answer=WHOLE["length"]))
    assert "[fs." not in capsys.readouterr().err
    assert [] == [path.name for path in tmp_path.iterdir() if path.name.startswith((".part", "out"))]
