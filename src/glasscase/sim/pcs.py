"""Intel's Provisioning Certification Service, version 4, for one simulated platform, on 127.0.0.1.

Invariants: answers have the header names, content types and percent-encoding of the real service; unknown platforms get 404,
wrong parameters 400; the time of issue is what the caller says, no clock is read.
Source: Intel SGX and TDX Provisioning Certification Service API, version 4; PCCS design guide (rootcacrl).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from glasscase.sim.pck import FMSPC
from glasscase.sim.platform import SimPlatform

BASE = "/sgx/certification/v4"
_TIMEOUT_S = 10
_BINARY = "application/pkix-crl"
_JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    content_type: str = _JSON
    headers: dict[str, str] = field(default_factory=dict)


class PcsServer:
    """A server for `platform`; use it as a context manager. at: unix seconds, or a function that gives them.

    url: what to give as collateral source. paths: the requests seen so far. override: path -> answer or None to close the
    connection without one; it stands before the honest answer.
    """

    def __init__(self, platform: SimPlatform, *, at: int | Callable[[], int], port: int = 0) -> None:
        self._platform = platform
        self._at = at if callable(at) else lambda: at
        self.override: dict[str, Answer | None] = {}
        self.paths: list[str] = []
        service = self

        class Handler(_Handler):
            pcs = service

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, target: str) -> Answer | None:
        """Return the answer to a GET of `target` (path and query); None closes the connection."""
        self.paths.append(target)
        parts = urlsplit(target)
        if parts.path in self.override:
            return self.override[parts.path]
        given = {name: values[0] for name, values in parse_qs(parts.query).items()}
        honest = _ROUTES.get(parts.path)
        return honest(self._platform.collateral(at=self._at()), given) if honest else Answer(404)


class _Handler(BaseHTTPRequestHandler):
    pcs: PcsServer
    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        answer = self.pcs.answer(self.path)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Request-ID", "0" * 32)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet."""


def _chain(name: str, pem: str) -> dict[str, str]:
    return {name: quote(pem, safe="")}


def _root_crl(collateral: dict[str, str], given: dict[str, str]) -> Answer:
    return Answer(400) if given else Answer(200, bytes.fromhex(collateral["root_ca_crl"]), _BINARY)


def _root_crl_hex(collateral: dict[str, str], given: dict[str, str]) -> Answer:
    return Answer(400) if given else Answer(200, collateral["root_ca_crl"].encode("ascii"), "text/plain")


def _pck_crl(collateral: dict[str, str], given: dict[str, str]) -> Answer:
    if not set(given) <= {"ca", "encoding"} or given.get("ca") not in ("platform", "processor"):
        return Answer(400)
    if given["ca"] != "platform":
        return Answer(404)
    headers = _chain("SGX-PCK-CRL-Issuer-Chain", collateral["pck_crl_issuer_chain"])
    if given.get("encoding", "pem") != "der":
        return Answer(400)  # the real service has PEM too; every client here asks for DER
    return Answer(200, bytes.fromhex(collateral["pck_crl"]), _BINARY, headers)


def _tcb(collateral: dict[str, str], given: dict[str, str]) -> Answer:
    fmspc = given.get("fmspc", "").lower()
    if not set(given) <= {"fmspc", "update"} or len(fmspc) != 12 or not _is_update(given):
        return Answer(400)
    if fmspc != FMSPC.hex():
        return Answer(404)
    headers = _chain("TCB-Info-Issuer-Chain", collateral["tcb_info_issuer_chain"])
    return Answer(200, collateral["tcb_info"].encode("ascii"), _JSON, headers)


def _qe_identity(collateral: dict[str, str], given: dict[str, str]) -> Answer:
    if not set(given) <= {"update"} or not _is_update(given):
        return Answer(400)
    headers = _chain("SGX-Enclave-Identity-Issuer-Chain", collateral["qe_identity_issuer_chain"])
    return Answer(200, collateral["qe_identity"].encode("ascii"), _JSON, headers)


def _is_update(given: dict[str, str]) -> bool:
    return given.get("update", "standard") in ("standard", "early")


_ROUTES: dict[str, Callable[[dict[str, str], dict[str, str]], Answer]] = {
    "/IntelSGXRootCA.der": _root_crl,
    f"{BASE}/rootcacrl": _root_crl_hex,
    f"{BASE}/pckcrl": _pck_crl,
    f"{BASE}/tcb": _tcb,
    f"{BASE}/qe/identity": _qe_identity,
}
