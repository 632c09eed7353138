"""The frame of the command line: exit codes, error lines, --json, --help."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import glasscase as glasscase_package
from glasscase.cli import main
from glasscase.cli.main import VERBS
from glasscase.cli.output import Output, escape, verb
from glasscase.cli.reading import write_argument
from glasscase.errors import StorageError, UsageError
from glasscase.hosting import collect


def glasscase(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "glasscase", *arguments], capture_output=True, text=True, check=False, **options
    )


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF of another system"], ids=["none", "empty", "other"])
def test_a_core_that_does_not_load_is_said_in_one_line(tmp_path, content):
    """Run from the sources, or from a wheel that was built for another system: no traceback, and no file is written."""
    package = tmp_path / "site" / "glasscase"
    package.mkdir(parents=True)
    for entry in Path(glasscase_package.__file__).parent.iterdir():
        if entry.name != "_native.abi3.so":
            (package / entry.name).symlink_to(entry)
    if content is not None:
        (package / "_native.abi3.so").write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = glasscase("keygen", "-o", tmp_path / "key", "--json", env=environment, cwd=tmp_path)

    assert 4 == done.returncode, done.stderr
    assert "core.library.unloadable" == json.loads(done.stdout)["error"]["id"]
    assert 2 == len(done.stderr.splitlines())
    assert not (tmp_path / "key").exists()


def test_a_signal_is_not_taken_for_a_fault_of_what_was_at_work(monkeypatch, capsys):
    """Who takes our errors for an answer (no enclave there, a bundle that is not sound) does not take the signal: it ends the verb."""
    handlers = {}
    monkeypatch.setattr(main.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    monkeypatch.setattr(collect.link, "ask", lambda *_, **__: handlers[signal.SIGTERM](signal.SIGTERM, None))
    monkeypatch.setattr(main.cli, "invoke", lambda _context: collect.answers("127.0.0.1", 1))
    code = main.run(["status", "--json"])

    assert 5 == code
    error = json.loads(capsys.readouterr().out)["error"]
    assert ("cli.signal.received", "stopped by SIGTERM") == (error["id"], error["message"])


@pytest.mark.parametrize(("color", "colored"), [("always", True), ("never", False)])
def test_names_from_outside_are_spelt_wherever_they_are_shown(capsys, color, colored):
    """A file may be called anything: no word of ours moves the cursor; colors are ours alone and only where wanted."""
    out = Output(json=False, quiet=False, color=color)
    name = "a\x1b[31mred\x1b]0;title\x07\x9b2J\u202e\u2028\r"
    for write in (out.say, out.warn, lambda text: out.result({}, text)):
        write(f"wrote\t{name} é\nnext {out.paint('PASS', 'green')}")
        seen = "".join(capsys.readouterr())
        shown = seen.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\x1b[31m", "")

        assert colored == ("\x1b[32mPASS\x1b[0m" in seen)
        assert seen.endswith("\n") and "é\nnext " in seen and "wrote\ta" in seen
        assert all(character in "\n\té" or " " <= character <= "~" for character in shown)
        assert "\\x1b]0;title\\x07\\x9b2J\\u202e\\u2028\\x0d" in shown


@pytest.mark.parametrize(
    ("data", "shown"), [(b'{\n\t"a": 1\n}\n', True), (b"\xd8\x62\x84", False), (b"a\x1b[2J", False)]
)
def test_binary_output_does_not_go_to_a_terminal(capsysbinary, monkeypatch, data, shown):
    """-o - of an envelope or receipt is for a pipe; text goes to a terminal too, and a pipe takes all."""
    out = Output(json=False, quiet=True, color="never")
    write_argument(out, "-", data)

    assert data == capsysbinary.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    if shown:
        write_argument(out, "-", data)
    else:
        with pytest.raises(UsageError) as caught:
            write_argument(out, "-", data)
        assert "cli.usage.wrong" == caught.value.reason
    assert (data if shown else b"") == capsysbinary.readouterr().out


def test_a_context_may_be_any_bytes(tmp_path):
    """An argument that is no UTF-8 is bound to the file as the bytes that it is; another one does not open it."""
    (tmp_path / "plain").write_bytes(b"content")
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    with_key = ["--key", str(key), "--context"]
    made = glasscase("encrypt", str(tmp_path / "plain"), "-o", str(tmp_path / "x"), *with_key, b"\xff\xfe")
    other = glasscase("decrypt", str(tmp_path / "x"), "-o", str(tmp_path / "y"), *with_key, b"\xff\xfd")
    right = glasscase("decrypt", str(tmp_path / "x"), "-o", str(tmp_path / "y"), *with_key, b"\xff\xfe")

    assert [0, 2, 0] == [made.returncode, other.returncode, right.returncode], made.stderr + other.stderr
    assert b"content" == (tmp_path / "y").read_bytes()


def test_too_little_memory_is_an_error_of_the_machine(tmp_path):
    """What does not fit into memory exits 4 and says so; it is no traceback and no verdict."""
    (tmp_path / "big.json").write_bytes(b'{"type":"' + b"x" * 20_000_000 + b'"}')
    limited = (
        "import resource; from glasscase.cli.main import main; now = int(open('/proc/self/statm').read().split()[0]) * 4096; "
        "resource.setrlimit(resource.RLIMIT_AS, (now + (16 << 20),) * 2); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "inspect", str(tmp_path / "big.json"), "--json"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert (4, "core.memory.exhausted") == (done.returncode, json.loads(done.stdout)["error"]["id"]), done.stderr
    assert "Traceback" not in done.stderr


def test_usage_errors_exit_1_with_a_hint():
    """A wrong verb or option is a usage error, never 2."""
    for arguments in (["no-such-verb"], ["version", "--no-such-option"], ["version", "extra"]):
        result = glasscase(*arguments)

        assert result.returncode == 1, arguments
        assert "[cli.usage.wrong]" in result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_version_as_json_is_one_object():
    """`version --json` has the keys of the contract."""
    result = glasscase("version", "--json")

    assert result.returncode == 0
    assert {"version", "libcrypto", "vaes", "engines"} <= set(json.loads(result.stdout))


def test_errors_with_json_are_one_object():
    """With --json an error is one object on stdout too."""
    result = glasscase("version", "--json", "extra")

    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["id"] == "cli.usage.wrong"


def test_a_failure_after_the_object_is_no_second_one(monkeypatch, capsys):
    """With --json a verb that ends by an error or Ctrl-C later, as proxy, has written its one object."""
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    for late in (StorageError("fs.file.full", "no space left"), KeyboardInterrupt()):

        @verb("version")
        def late_verb(out, late=late):
            out.result({"first": True}, "")
            raise late

        monkeypatch.setattr("glasscase.cli.versioning.version", late_verb)
        code = main.run(["version", "--json"])
        out, err = capsys.readouterr()

        assert ({"first": True}, 4 if isinstance(late, StorageError) else 5) == (json.loads(out), code)
        assert "glasscase: error: " in err


@pytest.mark.parametrize("name", sorted(VERBS))
def test_help_of_every_verb(name):
    """Every verb's --help exits 0 and names --json, --color and -q."""
    from click.testing import CliRunner

    from glasscase.cli.main import cli

    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0, result.output
    commands = getattr(cli.get_command(None, name), "commands", None)
    if commands is None:
        assert all(option in result.output for option in ("--json", "--color", "-q"))


def test_untrusted_text_is_escaped():
    """Escape codes, bidirectional marks and line breaks cannot reach a terminal."""
    assert escape("a\x1b[31m\n\u202e b\U000e0001") == "a\\x1b[31m\\x0a\\u202e b\\U000e0001"


@pytest.mark.parametrize("arguments", [["version", "--json"], ["verify", "--help"]])
def test_a_reader_that_goes_away_is_an_interruption(arguments):
    """A pipe without a reader ends the command with 5, without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "glasscase", *arguments], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)

    assert (5, b"") == (result.returncode, result.stderr)


def test_stdin_that_does_not_wait(tmp_path):
    """Standard input with O_NONBLOCK is read to its end, not to the first moment in which nothing is there."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writing, True)
    with subprocess.Popen(
        [sys.executable, "-m", "glasscase", "inspect", "-", "--json"], stdin=reading, stdout=subprocess.PIPE
    ) as process:
        os.close(reading)
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for part in (bytes(7), bytes(25)):
                time.sleep(1)
                pipe.write(part)
        answer, _ = process.communicate(timeout=60)

    assert (0, "key") == (process.returncode, json.loads(answer)["kind"])


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [(">&-", 4, "'stdout': bad file descriptor [fs.file.failed]"), ("2>&-", 0, ""), ("<&-", 0, "")],
)
def test_closed_standard_streams(tmp_path, closed, code, said):
    """Without stdout a result is lost, which is an error; without stderr or stdin everything else works."""
    command = f"{shlex.quote(sys.executable)} -m glasscase version {closed}"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert code == result.returncode, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert ("libcrypto" in result.stdout) == (code == 0)


@pytest.mark.parametrize(
    ("words", "said"), [("inspect -", "'stdin': bad"), ("encrypt - -o out --key key", "the input: bad")]
)
def test_closed_stdin_is_no_empty_one(tmp_path, words, said):
    """What stdin would have said is missing, which is an error, not an empty input that was dealt with well."""
    (tmp_path / "key").write_bytes(bytes(32))
    (tmp_path / "key").chmod(0o600)
    command = f"{shlex.quote(sys.executable)} -m glasscase {words} <&-"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (4, "") == (result.returncode, result.stdout)
    assert f"error: {said} file descriptor [" in result.stderr
    assert ["key"] == os.listdir(tmp_path)


CTRL_C = """
import os, signal, sys
chosen = sys.argv[1]
class WhileLoading:
    def find_spec(self, name, path=None, target=None):
        if name == chosen:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
sys.meta_path.insert(0, WhileLoading())
from glasscase.cli.start import main
sys.argv[1:] = ["version"]
main()
"""


@pytest.mark.parametrize("module", ["glasscase.cli.main", "click", "glasscase.cli.versioning"])
def test_ctrl_c_while_modules_are_loaded(module):
    """Ctrl-C in the first tenth of a second ends the command with 5 and one line, as later."""
    done = subprocess.run([sys.executable, "-c", CTRL_C, module], capture_output=True, text=True, check=False)

    assert (5, "") == (done.returncode, done.stdout)
    assert "glasscase: error: interrupted [cli.signal.received]" == done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_nothing_asked_for_shows_the_verbs():
    """`glasscase` alone shows what there is, as people read it, and is a usage error."""
    result = glasscase()

    assert (1, "") == (result.returncode, result.stdout)
    assert "\n  verify " in result.stderr
    assert "\\x0a" not in result.stderr


def test_a_misspelt_verb_gets_a_suggestion():
    """The hint names verbs that are spelt nearly so."""
    assert "hint: did you mean verify?" in glasscase("verfy").stderr
    assert "hint: glasscase --help" in glasscase("zzz").stderr


def test_a_missing_choice_is_said_in_one_line():
    """Click's list of choices is one line of ours, and the hint names the verb."""
    error = glasscase("ledger").stderr

    assert "Choose from: show, verify, retire, head [cli.usage.wrong]" in error
    assert "glasscase: hint: glasscase ledger --help" in error


def test_stdin_is_read_for_one_argument_only(tmp_path):
    """Two arguments `-` are refused, and the message names both."""
    result = glasscase("verify", "-", "--policy", "-", input='{"v":1}', cwd=tmp_path)

    assert 1 == result.returncode
    assert "standard input cannot be both" in result.stderr


def test_standard_input_is_not_read_twice(tmp_path):
    """Two subjects of one kind cannot both come from it: the second would be empty, and something else than was given."""
    result = glasscase("why", "-", "-", input="[sgx]\n", cwd=tmp_path)

    assert 1 == result.returncode
    assert "standard input cannot be manifest twice" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "evidence.json", "--bundle", ""],
        ["policy", ""],
        ["measure", ""],
        ["test", ""],
        ["keygen", "-o", ""],
    ],
)
def test_an_empty_path_is_not_the_current_directory(tmp_path, arguments):
    """It is that of a variable which is not set, wherever a path may stand."""
    (tmp_path / "bundle.json").write_text("{}")
    result = glasscase(*arguments, cwd=tmp_path)

    assert (1, "") == (result.returncode, result.stdout)
    assert "the path is empty" in result.stderr
    assert "[cli.usage.wrong]" in result.stderr
    assert ["bundle.json"] == os.listdir(tmp_path)


def test_a_verb_that_cannot_write_to_stdout_makes_no_file_called_dash(tmp_path):
    """keygen never shows a key; `-` is refused and nothing is written."""
    result = glasscase("keygen", "-o", "-", cwd=tmp_path)

    assert 1 == result.returncode
    assert "[fs.output.special]" in result.stderr
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "none.bundle", "--name", "n"],
        ["disclose", "none.bundle", "--key", "key", "-o", "out"],
        ["measure", "none.bundle"],
        ["verify", "none"],
        ["policy", "none.bundle"],
    ],
)
def test_a_missing_input_is_an_io_error(tmp_path, arguments):
    """What is not there exits 4, whatever else could be said, and nothing is written."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_bytes(bytes(32))
    result = glasscase(*arguments, cwd=tmp_path)

    assert 4 == result.returncode, result.stderr
    assert "[fs.file.missing]" in result.stderr
    assert ["key"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell):
    """Each shell gets a script that asks this program without arguments."""
    result = glasscase("completion", shell, "--json")

    assert 0 == result.returncode
    assert f"_GLASSCASE_COMPLETE={shell}_complete" in json.loads(result.stdout)["script"]


def completed(words):
    environment = os.environ | {
        "_GLASSCASE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)
    }  # fmt: skip
    return glasscase(env=environment).stdout.split()


def test_completion_knows_verbs_options_and_paths():
    """Verbs, options and what a path stands for are completed."""
    assert ["plain,verify", "plain,version"] == completed("glasscase ver")
    assert ["plain,--policy"] == completed("glasscase verify --poli")
    assert ["plain,flask"] == completed("glasscase init x --kind fl")
    assert ["file,ev"] == completed("glasscase verify ev")
    assert ["file,po"] == completed("glasscase verify evidence.json --policy po")


def test_the_environment_cannot_turn_a_verb_into_a_completion(tmp_path):
    """With arguments the variable of the completion scripts changes nothing: no exit 0 for what was not verified."""
    environment = os.environ | {"_GLASSCASE_COMPLETE": "bash_complete", "COMP_WORDS": "glasscase", "COMP_CWORD": "1"}
    result = glasscase("verify", str(tmp_path / "none"), env=environment)

    assert (4, "") == (result.returncode, result.stdout)


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "utf-8:strict"}, {"LC_ALL": "C"}]
)
def test_names_that_the_terminal_cannot_show(tmp_path, variables):
    """File names of any bytes and any locale: the command does its work and shows what it can."""
    name = os.fsdecode(b"k\xff\xc3\xbc")
    result = subprocess.run(
        [sys.executable, "-m", "glasscase", "keygen", "-o", name],
        cwd=tmp_path, env=os.environ | variables, capture_output=True, check=False,
    )  # fmt: skip

    assert 0 == result.returncode, result.stderr
    assert 32 == (tmp_path / name).stat().st_size


def test_no_verb_leaves_the_look_at_a_path_to_click():
    """Click would call an unreadable input a usage error; who opens the file says what is wrong with it, exit 4."""
    from click import Path

    from glasscase.cli.main import cli

    commands = [cli.get_command(None, name) for name in VERBS]
    paths = [
        (command.name, parameter.name)
        for command in commands
        for parameter in command.params
        if isinstance(parameter.type, Path) and (parameter.type.readable or parameter.type.exists)
    ]

    assert [] == paths


@pytest.mark.parametrize("folder", ["a\nb", "e\u0301", os.fsdecode(b"\xff")], ids=["newline", "nfd", "latin"])
def test_run_refuses_a_bundle_whose_path_cannot_be_written_down(tmp_path, folder):
    """state.json holds plain text: a path that is none is refused before anything is started or written."""
    (tmp_path / folder).mkdir()
    state = tmp_path / "state"
    result = subprocess.run(
        [sys.executable, "-m", "glasscase", "run", tmp_path / folder, "--name", "n", "--backend", "simulator"],
        env=os.environ | {"GLASSCASE_STATE": str(state)}, capture_output=True, check=False,
    )  # fmt: skip

    assert (1, True) == (result.returncode, b"[fs.path.unsuitable]" in result.stderr)
    assert not state.exists()


@pytest.mark.parametrize("home", ["/proc/nowhere", "relative"])
def test_who_only_reads_needs_no_home(monkeypatch, home):
    """verify and seal read pins and ledger if they are there; a home that cannot be written is no obstacle."""
    from glasscase.cli.pinned import imported_pins
    from glasscase.cli.places import data_dir
    from glasscase.cli.releases import known_measurements
    from glasscase.errors import StorageError

    for name in ("GLASSCASE_DATA", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])

    assert ((), frozenset()) == (imported_pins(), known_measurements())
    with pytest.raises(StorageError):
        data_dir()


def test_looking_at_instances_makes_no_directory(monkeypatch, capsys, tmp_path):
    """status and logs where nothing was ever started: an answer, and nothing is made, so a home may be read-only."""
    monkeypatch.setenv("GLASSCASE_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    codes = [main.run([*words, "--json"]) for words in (("status",), ("status", "app"), ("logs", "app"))]

    assert [0, 1, 1] == codes, capsys.readouterr().out
    assert [] == list(tmp_path.iterdir())


def test_the_data_directory_is_found_again(monkeypatch, tmp_path):
    """What data_dir() has made is what the readers look into."""
    from glasscase.cli.places import data_dir, data_dir_if_any

    monkeypatch.setenv("GLASSCASE_DATA", str(tmp_path / "data"))

    assert data_dir_if_any() is None
    assert data_dir() == data_dir_if_any()
    assert 0o700 == (tmp_path / "data").stat().st_mode & 0o777


def test_a_full_stdout_without_a_buffer_is_exit_four():
    """With PYTHONUNBUFFERED the error's own object cannot be written either: exit 4, no traceback."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "glasscase", "version", "--json"], stdout=full, stderr=subprocess.PIPE, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    assert 4 == done.returncode
    assert b"Traceback" not in done.stderr and b"fs.file.full" in done.stderr


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2> >(true)", "2>&-"])
@pytest.mark.parametrize(
    ("words", "code"),
    [("verify quote", 2), ("verify missing", 4), ("nonsense", 1), ("version --nonsense", 1), ("version", 0)],
)
def test_a_stderr_that_takes_no_words_changes_no_exit_code(tmp_path, stderr, words, code):
    """A log on a full disk, a reader that has gone: what was found out is in the exit code still."""
    (tmp_path / "quote").write_bytes(b"no quote at all")
    command = f"sleep 0.1; exec {shlex.quote(sys.executable)} -m glasscase {words}"
    done = subprocess.run(["bash", "-c", f"({command}) {stderr}"], cwd=tmp_path, capture_output=True, check=False)

    assert code == done.returncode, done.stderr


@pytest.mark.parametrize(
    ("option", "value", "command"),
    [
        ("--profile", "v1.8", ("sign", "bundle", "--key", "owner")),
        ("--tag", "latest", ("export", "bundle", "--tar", "t")),
        ("--source", "intel", ("collateral", "show", "owner")),
        ("--update", "standard", ("collateral", "show", "owner")),
        ("--source", "intel", ("tcb", "owner", "--collateral", "owner")),
        ("--engine", "native", ("attest", "bundle", "--key", "owner", "-o", "s")),
        ("--intel-library", "owner", ("verify", "owner")),
    ],
)
def test_options_with_a_default_that_do_nothing_are_refused(tmp_path, option, value, command):
    """What is given and would not count is refused, also with the value that is the default; without it the verb goes on."""
    (tmp_path / "bundle").mkdir()
    glasscase("keygen", "--kind", "owner", "-o", "owner", cwd=tmp_path)
    refused = glasscase(*command, option, value, "--json", cwd=tmp_path)
    plain = json.loads(glasscase(*command, "--json", cwd=tmp_path).stdout)

    assert (1, "cli.usage.wrong") == (refused.returncode, json.loads(refused.stdout)["error"]["id"])
    assert option in json.loads(refused.stdout)["error"]["message"]
    assert "cli.usage.wrong" != plain.get("error", {}).get("id")


@pytest.mark.parametrize("given", ["80a", "0x50", ""])
def test_a_number_is_called_a_number(given, capsys):
    """The name that the parser has for a bounded integer is not what the user gave or must give."""
    assert 1 == main.run(["run", "b", "--name", "n", "--port", given])
    words = capsys.readouterr().err

    assert f"{given!r} is not a whole number [cli.usage.wrong]" in words
