"""What people are shown: without the passwords of URLs."""

import pytest

from glasscase.codec.printable import url_without_login, without_logins


@pytest.mark.parametrize("login", ["me:s%25cret", "me:se/cret", "12/se@cret", "se/cret"])
def test_passwords_of_urls_are_not_shown(login):
    """A password that holds a `/` or `@`, which should have been encoded, is not shown either; other text stays."""
    text = "error: '{0}' and https://h/simple/ do not answer: a@b"
    assert text.format("https://h:1/a?b") == without_logins(text.format(f"https://{login}@h:1/a?b"))


@pytest.mark.parametrize(
    "login", ["me:s%25cret", "me:se/cret", "12/se@cret", "me:se cret", "me:se\tcret", "me:se\n?#cret"]
)
@pytest.mark.parametrize("scheme", ["https://", "HTTP:/", "https:", "git+ssh://", "", " ", "htps//"])
def test_a_password_is_not_shown_whatever_is_wrong_with_its_url(login, scheme):
    """What a shell or a person has made of a URL is refused, and its password not shown beside it."""
    shown = url_without_login(f"{scheme}{login}@h:1/a?b")

    assert shown == ("" if "/" not in scheme or ":" not in scheme else scheme) + "h:1/a?b"
    assert f"{scheme}h:1/a?b" == url_without_login(f"{scheme}h:1/a?b")
