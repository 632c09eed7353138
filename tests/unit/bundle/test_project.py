"""glasscase.toml is read strictly; what is absent has the value that the format shows."""

import pytest

from glasscase.bundle.project import parse_project
from glasscase.errors import FormatError, UsageError
from glasscase.gramine.pins import NAME as RUNTIME_NAME

SMALL = b'version = 1\n[app]\nname = "shop"\nentry = "app.main:app"\n'


def test_defaults():
    """The smallest project has the values of the format."""
    project = parse_project(SMALL)

    assert ("asgi", "src", "requirements.txt", True, "digest", False) == (
        project.app.interface, project.app.source, project.app.requirements, project.app.encrypt, project.app.models, project.app.pyc,
    )  # fmt: skip
    assert ("simulator", "512M", 32, 1, 1, False) == (
        project.enclave.runtime, project.enclave.size, project.enclave.max_threads, project.enclave.isv_prod_id, project.enclave.isv_svn,
        project.enclave.insecure_dev_enclave,
    )  # fmt: skip
    assert (16, 16777216, 10, 60, 30) == (
        project.server.app_threads, project.server.body_max, project.server.header_timeout,
        project.server.idle_timeout, project.server.drain,
    )  # fmt: skip
    assert ("keys/package.key", ("keys/owner.pub",), 1) == (
        project.keys.package,
        project.keys.owners,
        project.keys.threshold,
    )


@pytest.mark.parametrize(
    "text",
    [
        b"", b"version = 1\n", b"\xff", b"version = 1\n[app]\nname = 'shop'\n", SMALL + b"extra = 1\n", SMALL + b"[other]\n",
        SMALL.replace(b'"shop"', b'"Shop"'), SMALL.replace(b"app.main:app", b"app.main"), SMALL + b'interface = "cgi"\n',
        SMALL + b'source = "../src"\n', SMALL + b'source = "/src"\n', SMALL + b"encrypt = 1\n", SMALL + b"[enclave]\nsize = '3M'\n",
        SMALL + b"[enclave]\nmax_threads = 0\n", SMALL + b"[enclave]\nmax_threads = 4097\n", SMALL + b"[enclave]\nisv_svn = 65536\n",
        SMALL + b"[enclave]\ndebug = true\n", SMALL + b"[keys]\nthreshold = 2\n", SMALL + b"[keys]\nowners = []\n",
        SMALL + b"encrypt = false\n[[model]]\npath = 'm'\n", SMALL + b"[[model]]\npath = 'a/m'\n[[model]]\npath = 'b/m'\n",
        SMALL + b"[env]\n'A=B' = 'x'\n", SMALL + b"[env]\nA = 1\n", SMALL + b"[server]\ndrain = 0\n", SMALL + b"[app]\n",
        SMALL + b"[sources]\nkeyring = '/etc/x'\n", SMALL + b"[server]\nclient_ca = ''\n",
        b"version = " + b"1" * 5000, b"version = 1\nx = " + b"[" * 5000 + b"]" * 5000,
    ],
    ids=range(29),
)  # fmt: skip
def test_wrong_projects(text):
    """Unknown keys, wrong types, values out of range and paths that leave the project are refused."""
    with pytest.raises((UsageError, FormatError)) as caught:
        parse_project(text)

    assert caught.value.reason in ("bundle.project.malformed", "codec.version.malformed")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALL.replace(b"app.main:app", b"app.main"), "app.entry is 'app.main', expected module:attribute, like app.main:app"),
        (SMALL.replace(b'"shop"', b'"Shop"'), "app.name is 'Shop', expected a lower-case letter, then"),
        (SMALL + b'interface = "cgi"\n', "app.interface is 'cgi', expected asgi or wsgi"),
        (SMALL + b'models = "hash"\n', "app.models is 'hash', expected digest or key"),
        (SMALL + b"[enclave]\npersist = 'yes'\n", "enclave.persist is 'yes', expected none or mrenclave"),
        (SMALL + b"[enclave]\nruntime = 'A'\n", "enclave.runtime is 'A', expected a name of glasscase runtime list"),
        (SMALL + b"[server]\ncertificate = 'ca'\n", "server.certificate is 'ca', expected ra-tls or own"),
        (SMALL + b"[keys]\nthreshold = 2\n", "keys.threshold is 2, and keys.owners has 1"),
        (SMALL + b"interface = 1\n", "expected `str`, got `int` - at `$.app.interface`"),
    ],
)  # fmt: skip
def test_what_a_value_must_be_is_said_in_words(text, words):
    """A regular expression teaches nobody what an entry looks like, nor does `invalid` which choices there are."""
    with pytest.raises(UsageError) as caught:
        parse_project(text)

    assert words in caught.value.message
    assert "regex" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        b'requirements = "src/requirements.txt"\n', b"[keys]\npackage = 'src/keys/package.key'\n",
        b"[server]\nclient_ca = 'src/ca.pem'\n", b"[sources]\nkeyring = 'src/keyring.gpg'\n",
        b"encrypt = false\n[keys]\npackage = 'src/package.key'\n", b"[[model]]\npath = 'm'\nkey = 'm/model.key'\n",
        b"[[model]]\npath = 'keys'\n", b"[[model]]\npath = 'requirements.txt'\n",
        b"encrypt = false\n[keys]\nowners = ['keys/owner.pub', 'src/keys/owner.pub']\n",
    ],
    ids=range(9),
)  # fmt: skip
def test_what_must_not_go_into_the_bundle(text):
    """No key lies among the sources or models, and nothing whose digest or bytes would be in clear beside the encrypted file."""
    with pytest.raises(UsageError, match="goes into the bundle"):
        parse_project(SMALL + text)

    assert parse_project(SMALL + b'encrypt = false\nrequirements = "src/requirements.txt"\n')


@pytest.mark.parametrize(
    "url", ["", "me:secret@host/simple", "mine=https://me:secret@host", "https://", "https:///secret", "ftp://me:secret@host",
            "https://me:secret@host/a b", "https://me:secret@host:0/", "https://me:secret@host:x/", "https://[me:secret@host"],
)  # fmt: skip
def test_the_index_is_one_url(url):
    """What is not the URL of an index, empty or a named one, would have a tool ask another; the message has no password."""
    with pytest.raises(UsageError, match=r"sources\.index") as caught:
        parse_project(SMALL + f'[sources]\nindex = "{url}"\n'.encode())

    assert "secret" not in str(caught.value)
    for good in ("https://me:secret@host:8080/simple/", "http://127.0.0.1/simple", "file:///srv/simple"):
        assert good == parse_project(SMALL + f'[sources]\nindex = "{good}"\n'.encode()).sources.index


def test_newer_project():
    """A higher version is said to be newer before anything else is looked at."""
    with pytest.raises(FormatError) as caught:
        parse_project(b"version = 2\nwhatever = 1\n")

    assert "format.newer" == caught.value.reason


@pytest.mark.parametrize(
    "name", ["simulator", "gramine-1.9", "gramine-1.9+dfsg-1", "1.9", "a" * 63, "A", "-1", "a b", "a\\n", "", "a" * 64]
)
def test_a_runtime_that_can_be_imported_can_be_named(name):
    """What `runtime import` may call a runtime is what [enclave] runtime takes, and nothing else is."""
    text = SMALL + f'[enclave]\nruntime = "{name}"\n'.encode()
    if RUNTIME_NAME.fullmatch(name.replace("\\n", "\n")):
        assert name == parse_project(text).enclave.runtime
    else:
        with pytest.raises(UsageError):
            parse_project(text)


@pytest.mark.parametrize(("before", "after"), [(b'shop"', b'shop\\n"'), (b':app"', b':app\\n"')])
def test_a_line_break_ends_no_name(before, after):
    """A pattern that ends with $ would let one line break pass at the end."""
    assert before in SMALL
    with pytest.raises(UsageError):
        parse_project(SMALL.replace(before, after))
