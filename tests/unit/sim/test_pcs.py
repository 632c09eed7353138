"""The local collateral service answers as Intel's does."""

import urllib.error
import urllib.request
from urllib.parse import unquote

import pytest

from glasscase.sim.pcs import Answer, PcsServer
from glasscase.sim.platform import SimPlatform

AT = 1764000000


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    return SimPlatform.open(tmp_path_factory.mktemp("sim"))


@pytest.fixture
def server(platform):
    with PcsServer(platform, at=AT) as server:
        yield server


def get(server, path):
    with urllib.request.urlopen(server.url + path, timeout=60) as answer:
        return answer.read(), answer.headers


def test_every_object_is_served(server, platform):
    """The seven objects come back as collateral(at) has them, chains percent-encoded in the header of their endpoint."""
    ours = platform.collateral(at=AT)
    base = "/sgx/certification/v4"
    crl, crl_headers = get(server, f"{base}/pckcrl?ca=platform&encoding=der")
    tcb, tcb_headers = get(server, f"{base}/tcb?fmspc=53494d554c41")
    qe, qe_headers = get(server, f"{base}/qe/identity?update=standard")

    assert ours["pck_crl"] == crl.hex()
    assert ours["pck_crl_issuer_chain"] == unquote(crl_headers["SGX-PCK-CRL-Issuer-Chain"])
    assert ours["tcb_info"] == tcb.decode()
    assert ours["tcb_info_issuer_chain"] == unquote(tcb_headers["TCB-Info-Issuer-Chain"])
    assert "\n" not in tcb_headers["TCB-Info-Issuer-Chain"]
    assert ours["qe_identity"] == qe.decode()
    assert ours["qe_identity_issuer_chain"] == unquote(qe_headers["SGX-Enclave-Identity-Issuer-Chain"])
    assert ours["root_ca_crl"] == get(server, f"{base}/rootcacrl")[0].decode()
    assert ours["root_ca_crl"] == get(server, "/IntelSGXRootCA.der")[0].hex()
    assert 5 == len(server.paths)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sgx/certification/v4/tcb?fmspc=00906ed50000", 404),
        ("/sgx/certification/v4/tcb?fmspc=53", 400),
        ("/sgx/certification/v4/tcb?fmspc=53494d554c41&update=soon", 400),
        ("/sgx/certification/v4/pckcrl?ca=processor&encoding=der", 404),
        ("/sgx/certification/v4/pckcrl?ca=root&encoding=der", 400),
        ("/sgx/certification/v3/tcb?fmspc=53494d554c41", 404),
        ("/", 404),
    ],
)
def test_wrong_requests(server, path, status):
    """Other platforms, other versions and wrong parameters are refused with the service's status."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(server, path)
    caught.value.close()

    assert status == caught.value.code


def test_overridden_answer(server):
    """A test can put any answer, or none, in place of the honest one."""
    server.override["/sgx/certification/v4/qe/identity"] = Answer(200, b"<html>", "text/html")

    assert b"<html>" == get(server, "/sgx/certification/v4/qe/identity")[0]

    server.override["/sgx/certification/v4/qe/identity"] = None
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        get(server, "/sgx/certification/v4/qe/identity")


def test_time_comes_from_the_caller(platform):
    """The documents are issued at the second that the caller's function gives."""
    times = iter([AT, AT + 86400])
    with PcsServer(platform, at=lambda: next(times)) as server:
        first = get(server, "/sgx/certification/v4/tcb?fmspc=53494D554C41")[0]
        second = get(server, "/sgx/certification/v4/tcb?fmspc=53494D554C41")[0]

    assert b'"issueDate":"2025-11-24T16:00:00Z"' in first
    assert b'"issueDate":"2025-11-25T16:00:00Z"' in second
