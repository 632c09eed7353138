"""The data user's verbs: get and proxy. Both verify the enclave inside the TLS handshake, before anything is sent."""

import contextlib
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape, verb
from glasscase.errors import Error, Interrupted, StorageError, UsageError

if TYPE_CHECKING:
    import http.client
    from collections.abc import Coroutine, Iterator

    from glasscase.ratls.address import Address
    from glasscase.ratls.client import RatlsContext

CHUNK = 64 << 10  # bytes
BODY_MAX = 1 << 30  # bytes of a file to send
JSON_BODY_MAX = 64 << 20  # bytes of a body that is put into one JSON object
TIMEOUT_S = 60
TIMEOUT_MAX_S = 1_000_000


def _trust_options(function: Any) -> Any:
    """Add the options that say which enclave may be talked to."""
    for option in (
        click.option(
            "--client-key",
            metavar="PEM",
            type=click.Path(),
            help="Key of the certificate to show [default: in the same file].",
        ),
        click.option("--client-cert", metavar="PEM", type=click.Path(), help="Certificate to show (mutual TLS)."),
        click.option(
            "--own-certificate",
            is_flag=True,
            help="Ask the enclave for its evidence, because its certificate is by its owner's CA.",
        ),
        click.option(
            "--collateral-source",
            metavar="S",
            help="Where collateral comes from: intel, a URL of a PCCS, or a file [default: intel; of the simulator's root: the simulator].",
        ),
        click.option(
            "--insecure-anchor",
            metavar="PEM",
            type=click.Path(),
            help="Trust this root instead of Intel's. What is said says SIMULATED.",
        ),
        click.option(
            "--bundle", metavar="B", type=click.Path(), help="The bundle that must run there; it is recomputed."
        ),
        click.option(
            "--policy", metavar="POLICY", type=click.Path(), required=True, help="Which enclave may have the data."
        ),
    ):
        function = option(function)
    return function


@verb(
    "get",
    help="Fetch a URL from an enclave, after it was verified. The answer goes to stdout or -o FILE; a status of 400 or "
    "more exits 4.",
)
@click.argument("url")
@_trust_options
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Where the answer goes, whole or not at all [default: stdout].",
)
@click.option(
    "-X", "--request", "method", metavar="METHOD", help="Method of the request [default: GET, or POST with --data]."
)
@click.option(
    "-d",
    "--data",
    metavar="TEXT",
    multiple=True,
    help="Body to send; @FILE reads it, @- from standard input; repeatable, joined with &.",
)
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="Header to send; repeatable.")
@click.option(
    "--timeout",
    type=click.IntRange(1, TIMEOUT_MAX_S),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds without any byte before it gives up.",
)
def get(out: Output, url: str, *, output: str | None, method: str | None, data: tuple[str, ...], headers: tuple[str, ...],
        timeout: int, **trust: Any) -> int:  # fmt: skip
    """Verify, ask, write."""
    import http.client

    from glasscase.cli.reading import require_not_read
    from glasscase.fs.atomic import atomic_file
    from glasscase.ratls.address import read_url
    from glasscase.ratls.client import live_peer

    require_not_read(output, "-o")
    where = read_url(url)
    target = _target(where)
    fields: Any = http.client.HTTPMessage()  # unlike a dict it keeps two of one name
    for text in headers:
        name, value = _header(text)
        fields.add_header(name, value)
    body = _body(data)
    asked = _method(method, "GET" if body is None else "POST")
    context = _context(trust, where)
    connection = http.client.HTTPSConnection(where.host, where.port, timeout=timeout, context=context)
    # made before anything is sent: what the application has done is not asked for again because of a place that takes no file
    with contextlib.closing(connection), contextlib.nullcontext() if output is None else atomic_file(output) as file:
        with _reaching(where):
            connection.connect()
        peer = live_peer(connection.sock)
        out.say(f"verified  MRENCLAVE {peer.enclave.mrenclave.hex()}{'  SIMULATED' if peer.enclave.simulated else ''}")
        with _reaching(where):
            connection.request(asked, target, body=body, headers=fields)
            response = connection.getresponse()
        answered = _answer(out, _chunks(response, where), file)
    if answered is not None:
        known = {
            "status": response.status,
            "mrenclave": peer.enclave.mrenclave.hex(),
            "simulated": peer.enclave.simulated,
            "valid_until": peer.valid_until,
            "headers": _headers(response.getheaders()),
        }
        out.result({**known, **({} if output is None else {"output": output}), **answered}, "")
    if response.status >= 400:
        out.warn(f"the answer is {response.status} {escape(response.reason)} [client.response.refused]")
        return exitcodes.IO
    return exitcodes.OK


@verb("proxy", help="Listen on a local port and carry each connection to an enclave, once that was verified in it.")
@click.argument("url")
@_trust_options
@click.option(
    "--listen", required=True, metavar="127.0.0.1:PORT", help="Where to listen; port 0 lets the system choose."
)
def proxy(out: Output, url: str, *, listen: str, **trust: Any) -> int:
    """Serve until a signal comes."""
    import asyncio

    from glasscase.ratls.address import read_url
    from glasscase.ratls.proxy import Proxy, Target, allow_connections, require_loopback

    where = read_url(url)
    if where.path not in {"", "/"} or where.query:
        raise UsageError(
            "client.url.malformed", "proxy takes the address of an enclave, without a path", hint="https://HOST:PORT/"
        )
    host, port = _listen(listen)
    require_loopback(host)
    context = _context(trust, where)
    simulated = trust["insecure_anchor"] is not None

    def started(port: int) -> None:
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        value = {"listen": address, "target": url, "pid": os.getpid(), "simulated": simulated}
        out.result(value, f"listening on {address}, verified {url}{'  SIMULATED' if simulated else ''}")

    serving = Proxy(Target(where.host, where.port), context, time.time, _talk(out), most=allow_connections())
    asyncio.run(_until_signal(serving.serve(host, port, started)))
    return exitcodes.OK


async def _until_signal(work: "Coroutine[Any, Any, None]") -> None:
    """Run until SIGTERM or SIGINT; then close everything and raise Interrupted."""
    import asyncio
    import signal

    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    got: list[str] = []

    def stop(number: signal.Signals) -> None:
        got.append(number.name)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if got:
            raise Interrupted("cli.signal.received", f"stopped by {got[0]}") from None
        raise


def _talk(out: Output) -> Any:
    return lambda text: out.say(f"proxy     {escape(text)}")


def _context(trust: dict[str, Any], where: "Address") -> "RatlsContext":
    """Return the verifying context of the options."""
    from glasscase.cli.fetching import client_collateral
    from glasscase.cli.reading import read_argument
    from glasscase.cli.verifying import anchor_argument
    from glasscase.ratls.client import context
    from glasscase.verify.policy import POLICY_MAX, parse_policy

    policy = parse_policy(read_argument(trust["policy"], max_bytes=POLICY_MAX, what="policy"))
    anchor = anchor_argument(trust["insecure_anchor"])
    measurement = None if trust["bundle"] is None else _checked(trust["bundle"])
    source = trust["collateral_source"]
    found = context(
        policy, anchor, measurement,
        lambda quote: client_collateral(quote, anchor=anchor, source=source, now=int(time.time())),
        own_certificate_at=(where.host, where.port) if trust["own_certificate"] else None,
    )  # fmt: skip
    if trust["client_cert"] is not None:
        _show_certificate(found, trust["client_cert"], trust["client_key"])
    elif trust["client_key"] is not None:
        raise UsageError("cli.usage.wrong", "--client-key needs --client-cert", hint="--client-cert PEM")
    return found


def _show_certificate(context: "RatlsContext", certificate: str, key: str | None) -> None:
    """Load the certificate of a client; raises UsageError if certificate and key do not fit."""
    import ssl

    from glasscase.fs.atomic import storage_error

    try:
        # an encrypted key would ask on the terminal; an empty password makes that an error
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        text = (error.reason or "cannot be read").lower()
        raise UsageError(
            "client.identity.unusable", f"{certificate!r} and its key: {text}", hint="PEM, not encrypted"
        ) from None
    except OSError as error:
        raise storage_error(error, certificate) from None


def _checked(bundle: str) -> Any:
    from glasscase.bundle.check import check_bundle
    from glasscase.cli.pinned import trusted_pins

    return check_bundle(bundle, runtimes=trusted_pins()).require_sound()


def _answer(out: Output, chunks: "Iterator[bytes]", file: BinaryIO | None) -> dict[str, Any] | None:
    """Write the body to `file`, or to stdout unless it is part of a JSON object; return what is said of it, or None."""
    if file is not None:
        return {"bytes": sum(file.write(chunk) for chunk in chunks)}
    if not out.json:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return None
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > JSON_BODY_MAX:
            raise UsageError("client.response.oversize", "the answer is too long for one JSON object", hint="-o FILE")
    return {"bytes": len(body), **_text_or_base64(bytes(body))}


def _headers(fields: "list[tuple[str, str]]") -> dict[str, str]:
    """Return headers by lower-case name; what comes several times is joined with ", ", in its order (RFC 9110 5.3)."""
    found: dict[str, str] = {}
    for name, text in fields:
        key = name.lower()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def _chunks(response: "http.client.HTTPResponse", where: "Address") -> "Iterator[bytes]":
    """Give the body; raises StorageError("client.response.truncated") unless all of it came.

    http.client takes the end of the connection for the end of a body whose length it knows.
    """
    import http.client
    import ssl

    while True:
        try:
            with _reaching(where, but=(http.client.IncompleteRead, ssl.SSLEOFError)):
                chunk = response.read(CHUNK)
        except (http.client.IncompleteRead, ssl.SSLEOFError):
            raise _truncated("before its end") from None
        if not chunk:
            break
        yield chunk
    if response.length:
        raise _truncated(f"{response.length} bytes too early")


def _truncated(when: str) -> StorageError:
    return StorageError(
        "client.response.truncated", f"the connection was cut {when}: the answer is not whole", hint="ask again"
    )


def _text_or_base64(body: bytes) -> dict[str, Any]:
    import base64

    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode("ascii")}
    try:
        return {"body": text, "body_json": json.loads(text)}
    except ValueError:
        return {"body": text}


def _target(where: "Address") -> str:
    """Return what a request asks for; raises UsageError("client.url.malformed") for letters that it cannot carry."""
    target = (where.path or "/") + (f"?{where.query}" if where.query else "")
    if not target.isascii():
        raise UsageError(
            "client.url.malformed",
            f"{target!r} holds letters that a request cannot carry",
            hint="percent-encode them: %C3%A9",
        )
    return target


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
        raise UsageError("cli.usage.wrong", f"--listen {text!r} is not ADDRESS:PORT", hint="--listen 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _method(given: str | None, default: str) -> str:
    method = default if given is None else given
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", method, re.ASCII):
        raise UsageError("cli.usage.wrong", f"-X {method!r} is not the name of a method", hint="-X PUT")
    return method


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    sendable = all(ord(character) < 0x100 for character in text)
    if not colon or not name.strip() or not name.isascii() or not text.isprintable() or not sendable:
        raise UsageError(
            "cli.usage.wrong", f"-H {text!r} is not NAME: VALUE", hint='-H "Content-Type: application/json"'
        )
    return name.strip(), value.strip()


def _body(data: tuple[str, ...]) -> bytes | None:
    return b"&".join(_part(text) for text in data) if data else None


def _part(text: str) -> bytes:
    from glasscase.cli.reading import read_argument

    if text.startswith("@"):
        return read_argument(text[1:], max_bytes=BODY_MAX, what="body")
    return text.encode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _reaching(where: "Address", but: tuple[type[Exception], ...] = ()) -> "Iterator[None]":
    """Give the block in which the network's errors are those of the enclave's address; our own and `but` pass unchanged."""
    import http.client
    import ssl

    unchanged: tuple[type[BaseException], ...] = (Error, *but)
    try:
        yield
    except unchanged:
        raise
    except http.client.HTTPException as error:
        raise StorageError("client.enclave.unreachable", f"the answer is not HTTP: {type(error).__name__}") from None
    except ssl.SSLEOFError:
        raise StorageError(
            "client.enclave.unreachable", f"{where.host} port {where.port} has ended the connection"
        ) from None
    except ssl.SSLError as error:
        why = (error.reason or "no reason given").replace("_", " ").lower()
        raise StorageError(
            "client.enclave.unreachable", f"{where.host} port {where.port} does not speak TLS 1.3 with us: {why[:200]}",
            hint="is that the host and port of the enclave? the operator's glasscase status shows its URL",
        ) from None  # fmt: skip
    except OSError as error:
        why = (error.strerror or str(error) or type(error).__name__).lower()
        raise StorageError(
            "client.enclave.unreachable", f"{where.host} port {where.port} does not answer: {why[:200]}"
        ) from None
