"""What people are shown: without the passwords of URLs."""

import pytest

from glasscase.codec.printable import without_logins


@pytest.mark.parametrize("login", ["me:s%25cret", "me:se/cret", "12/se@cret", "se/cret"])
def test_passwords_of_urls_are_not_shown(login):
    """A password that holds a `/` or `@`, which should have been encoded, is not shown either; other text stays."""
    text = "error: '{0}' and https://h/simple/ do not answer: a@b"
    assert text.format("https://h:1/a?b") == without_logins(text.format(f"https://{login}@h:1/a?b"))
