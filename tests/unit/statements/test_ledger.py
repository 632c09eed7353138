"""The ledger: a chain whose lines cannot be changed, dropped or reordered unseen."""

import hashlib

import pytest

from glasscase.codec.labels import label
from glasscase.errors import FormatError
from glasscase.statements.ledger import LEDGER_MAX, NO_KEY, genesis, next_line, parse_ledger, released


def chain(*kinds):
    lines = ()
    for n, (kind, mrenclave) in enumerate(kinds):
        facts = {"bundle_id": bytes([n]) * 32, "mrenclave": mrenclave * 32, "isv_svn": n, "time": 1000 + n}
        lines = (*lines, next_line(lines, public_key=NO_KEY, kind=kind, **facts))
    return lines


LINES = chain(("release", b"a"), ("release", b"b"), ("retire", b"a"), ("release", b"c"))
DATA = b"".join(line.to_bytes() for line in LINES)


def test_a_chain_comes_back():
    """What was written is read, and the first line hangs on the key."""
    assert LINES == parse_ledger(DATA, public_key=NO_KEY)
    assert hashlib.sha256(label("ledger") + bytes(32)).digest() == LINES[0].prev
    assert hashlib.sha256(LINES[0].to_bytes()).digest() == LINES[1].prev
    assert () == parse_ledger(b"", public_key=NO_KEY)


def test_what_is_released():
    """A retired measurement does not count, until it is released again."""
    assert frozenset({b"b" * 32, b"c" * 32}) == released(LINES)
    assert b"a" * 32 in released(chain(("release", b"a"), ("retire", b"a"), ("release", b"a")))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (DATA[:-1], "ledger.line.malformed"),
        (DATA + b"\n", "codec.json.malformed"),
        (DATA.replace(b'"retire"', b'"revoke"'), "ledger.line.malformed"),
        (DATA.replace(b'"retire"', b'"release"'), "ledger.chain.broken"),
        (DATA.replace(b'"isv_svn":1', b'"isv_svn":9'), "ledger.chain.broken"),
        (LINES[1].to_bytes(), "ledger.chain.broken"),
        (LINES[0].to_bytes() + LINES[2].to_bytes(), "ledger.chain.broken"),
        (LINES[1].to_bytes() + LINES[0].to_bytes(), "ledger.chain.broken"),
        (DATA.replace(b'"n":0,', b'"n": 0,'), "codec.json.noncanonical"),
        (DATA.replace(b'"n":0,', b'"m":0,'), "codec.json.noncanonical"),
    ],
)
def test_a_damaged_chain_is_refused(data, reason):
    """Every change to a line, its order or its spelling is seen."""
    with pytest.raises(FormatError) as caught:
        parse_ledger(data, public_key=NO_KEY)
    assert reason == caught.value.reason


@pytest.mark.parametrize(
    "change",
    [
        (b'"retire"', b'"revoke"'),
        (b'"n":2,', b'"n": 2,'),
        (b'"n":2,', b'"n":x,'),
        (b'"n":2,', b'"n":"2",'),
        (b'"prev":"', b'"prev":"X'),
    ],
)
def test_a_damaged_line_is_named(change):
    """Whatever is wrong with one line, the message says with which."""
    lines = DATA.splitlines(keepends=True)
    lines[2] = lines[2].replace(*change)
    with pytest.raises(FormatError, match="line 2 of the ledger"):
        parse_ledger(b"".join(lines), public_key=NO_KEY)


def test_a_ledger_of_too_many_bytes_is_not_read():
    """The length is refused before any line is looked at."""
    with pytest.raises(FormatError, match="at most 67108864 are allowed") as caught:
        parse_ledger(bytes(LEDGER_MAX + 1), public_key=NO_KEY)
    assert "ledger.line.malformed" == caught.value.reason


def test_another_key_begins_another_chain():
    """A ledger of one key is not that of another."""
    with pytest.raises(FormatError):
        parse_ledger(DATA, public_key=b"k" * 32)
    assert genesis(NO_KEY) != genesis(b"k" * 32)
