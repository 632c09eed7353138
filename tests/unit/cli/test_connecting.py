"""What `get` makes of an answer."""

from glasscase.cli import connecting


def test_headers_that_come_twice_are_both_shown():
    """get --json loses no header of an answer: those of one name are joined as HTTP says, in their order."""
    fields = [("Vary", "Accept"), ("Set-Cookie", "a=1"), ("vary", "Origin"), ("Date", "now"), ("Set-Cookie", "b=2")]

    assert {"vary": "Accept, Origin", "set-cookie": "a=1, b=2", "date": "now"} == connecting._headers(fields)
