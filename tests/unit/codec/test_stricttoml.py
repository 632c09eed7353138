"""TOML from outside is read within bounds."""

import contextlib
import time
import tomllib

import pytest

from glasscase.codec import stricttoml
from glasscase.errors import Error

LONG = ".".join(["a"] * 65)
LONGEST = ".".join(["a"] * 64)


@pytest.mark.parametrize(
    "text",
    [
        f"{LONG} = 1", f"[{LONG}]", f"[[{LONG}]]", f"x = {{ {LONG} = 1 }}", f"x = [1, {{{LONG} = 1}}]",
        " . ".join(['"b.c"', "'d'"] * 33) + " = 1", LONG.replace(".", "\t. ") + "= 1",
        f'x = """y""""\n{LONG} = 1', f'x = ["""y"""""", {{{LONG} = 1}}]', f'x = ["""y""""", {{{LONG} = 1}}]',
        f"x = ['''y''''', {{{LONG} = 1}}]", f'x = "\\\\"\n{LONG} = 1', f"x = '\\'\n{LONG} = 1", f'x = "#"\n{LONG} = 1',
        f'# "\n{LONG} = 1', f'"\\"" = 1\n{LONG} = 1', f'x = """\\""""\n{LONG} = 1', f'x = """\n""\n"""\n{LONG} = 1',
    ],
)  # fmt: skip
def test_long_keys_are_refused(text):
    """A key of 65 parts is refused wherever it stands, whatever strings and comments stand before it."""
    with pytest.raises(ValueError):
        stricttoml.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{LONGEST} = 1", f"[{LONGEST}]\nb = 2", f'x = "{LONG}"', f"x = '{LONG}'", f'x = """\n{LONG}\n"""', f"x = '''{LONG}'''",
        f"# {LONG}\nx = 1", "x = [" + "1.5, " * 100 + "]", "\n".join(f"[t{n}]\na.b = 1.5" for n in range(100)),
        f'x = """{LONG}""""\ny = 1', f'x = """"{LONG}"""', f'"{LONG}" = 1', f'x = "\\"{LONG}"', 'x = "' + "a." * 100_000 + '"',
    ],
)  # fmt: skip
def test_other_documents_are_as_the_standard_reader_gives_them(text):
    """Strings, comments, numbers and keys of 64 parts are read as before."""
    assert tomllib.loads(text) == stricttoml.loads(text)


def test_what_is_no_toml_stays_an_error_and_costs_little():
    """Words, quotes and dots without end are looked through once."""
    begin = time.monotonic()
    for text in ("a" * 3_000_000, "a." * 1_000_000, '"' * 3_000_000, "'" * 3_000_000, "a" + " " * 3_000_000, '"\\' * 1_000_000,
                 "a.b " * 500_000, "#" * 3_000_000, '"""' + "'" * 3_000_000):  # fmt: skip
        with contextlib.suppress(ValueError):
            stricttoml.loads(text + ".b" * 60)

    assert time.monotonic() - begin < 20


def readers():
    from glasscase.audit.inspection import inspect_bytes
    from glasscase.bundle.project import parse_project
    from glasscase.gramine.manifest import parse_manifest
    from glasscase.gramine.pins import parse_pin
    from glasscase.hosting.backends import direct_manifest
    from glasscase.lock.model import Lock
    from glasscase.lock.pylock import made_here
    from glasscase.verify.policy import parse_policy

    return (
        inspect_bytes,
        parse_project,
        parse_manifest,
        parse_pin,
        direct_manifest,
        Lock.from_bytes,
        made_here,
        parse_policy,
    )


@pytest.mark.parametrize("read", readers(), ids=lambda read: read.__qualname__)
def test_every_reader_of_toml_refuses_a_long_key(read):
    """60 KB of one key would cost each of them seconds and gigabytes: it is an error at once."""
    begin = time.monotonic()
    with pytest.raises(Error):
        read(b"version = 1\n" + b"a." * 30_000 + b"a = 1\n")

    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    "number",
    ["0x" + "f" * 5000, "0o" + "7" * 30, "0b" + "1" * 65, "1" * 5000, "-" + "9" * 20, "0x1_0000_0000_0000_0000"],
)
def test_an_integer_of_more_than_64_bits_is_refused(number):
    """What the standard reader takes as long as it is not decimal, and what then cannot even be shown."""
    for text in (f"x = {number}", f"x = [[{{a.b = {number}}}]]", f"[[a]]\nx = {number}"):
        with pytest.raises(ValueError, match="64 bits"):
            stricttoml.loads(text)


def test_integers_of_64_bits_are_read():
    """The smallest and the largest, in every base, and digits that are no number."""
    text = f'a = [0x{"f" * 15}, -{2**63}, {2**63 - 1}, 0x7fff_ffff_ffff_ffff]\nb = "0x{"f" * 99}"\nc = {"1" * 20}.5\n'

    assert tomllib.loads(text) == stricttoml.loads(text)


@pytest.mark.parametrize("read", readers(), ids=lambda read: read.__qualname__)
def test_every_reader_of_toml_refuses_a_version_that_is_no_number_to_show(read):
    """A version of 5000 hexadecimal digits is an error of ours, not one of the message that would show it."""
    with pytest.raises(Error):
        read(b"version = 0x" + b"f" * 5000 + b"\n")
