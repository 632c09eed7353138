"""Collateral is read in three forms, kept verbatim, and refused in any other."""

import json
from dataclasses import replace

import pytest

from glasscase import auditor
from glasscase.collateral.model import ITEMS, Collateral, parse_collateral, signed_tcb_info
from glasscase.errors import FormatError

CASE = "sgx3-00606a000000-b7ab1c-2412"


@pytest.fixture
def corpus(shared):
    return json.loads((shared / "corpus" / CASE / "collateral.json").read_text())


def as_bytes(value):
    return json.dumps(value).encode()


def test_the_corpus_form_is_kept_verbatim(corpus):
    """Every text comes back as it was, the CRLs as DER; the chain of the PCK is ignored."""
    found = parse_collateral(as_bytes({**corpus, "pck_certificate_chain": "ignored"}))

    for name in ITEMS:
        value = getattr(found, name)
        assert corpus[name] == (value.hex() if isinstance(value, bytes) else value)


def test_our_own_file_comes_back(corpus):
    """Writing and reading our own form loses nothing."""
    found = Collateral(**{**vars(parse_collateral(as_bytes(corpus))), "source": "intel", "fetched_at": 1764000000})

    assert found == parse_collateral(found.to_bytes())
    assert found == Collateral.from_fields(found.fields())
    assert "glasscase-collateral" == found.to_json()["type"]


def test_crls_may_be_pem(corpus):
    """A CRL in PEM is the same as in hex."""
    import base64

    pem = "-----BEGIN X509 CRL-----\n" + base64.encodebytes(bytes.fromhex(corpus["pck_crl"])).decode()
    found = parse_collateral(as_bytes({**corpus, "pck_crl": pem + "-----END X509 CRL-----\n"}))

    assert corpus["pck_crl"] == found.pck_crl.hex()


def offline_tool(corpus, *, fmspcs=("00606a000000",), early=False):
    """Return the file that Intel's administration tool writes after `fetch`: headers percent-encoded, TCB info parsed."""
    from urllib.parse import quote

    info = json.loads(corpus["tcb_info"])
    return {
        "platforms": [],
        "collaterals": {
            "version": 4,
            "pck_certs": [],
            "tcbinfos": [{"fmspc": fmspc, "sgx_tcbinfo": info} for fmspc in fmspcs],
            "pckcacrl": {"processorCrl": "00", "platformCrl": corpus["pck_crl"]},
            "qeidentity": corpus["qe_identity"],
            "tdqeidentity": "",
            "qveidentity": "",
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": {"PLATFORM": quote(corpus["pck_crl_issuer_chain"])},
                "SGX-TCB-Info-Issuer-Chain": quote(corpus["tcb_info_issuer_chain"]),
                "SGX-Enclave-Identity-Issuer-Chain": quote(corpus["qe_identity_issuer_chain"]),
            },
            "rootcacrl_cdp": "https://example.invalid/root.der",
            "rootcacrl": corpus["root_ca_crl"],
        },
    }


def test_the_file_of_intels_offline_tool_gives_the_same_objects(corpus):
    """The parsed TCB info is written again in Intel's own form, so that its signature holds."""
    wanted = parse_collateral(as_bytes(corpus))
    found = parse_collateral(as_bytes(offline_tool(corpus)), fmspc=bytes.fromhex("00606a000000"), ca="platform")

    assert {name: getattr(wanted, name) for name in ITEMS} == {name: getattr(found, name) for name in ITEMS}


def test_a_file_of_several_platforms_needs_a_choice(corpus):
    """Without fmspc and CA an ambiguous file is refused, with them the right entry is taken."""
    many = as_bytes(offline_tool(corpus, fmspcs=("00606a000000", "00906ed50000")))
    with pytest.raises(FormatError) as caught:
        parse_collateral(many)

    assert "collateral.file.ambiguous" == caught.value.reason
    assert corpus["tcb_info"] == parse_collateral(many, fmspc=bytes.fromhex("00606a000000"), ca="platform").tcb_info
    assert "" != parse_collateral(many, fmspc=bytes.fromhex("00606A000000"), ca="platform").tcb_info


@pytest.mark.parametrize("change", [
    {"extra": 1}, {"tcb_info": 5}, {"root_ca_crl": "zz"}, {"root_ca_crl": "308"}, {"root_ca_crl": ""}, {"pck_crl": None},
    {"type": "glasscase-collateral"}, {"type": "other"}, {"tcb_info": "x" * (1024 * 1024 + 1)},
    {"qe_identity_issuer_chain": "x" * 65537},
])  # fmt: skip
def test_other_keys_types_and_sizes_are_refused(corpus, change):
    """An unknown key, another type or an oversized object is no collateral."""
    with pytest.raises(FormatError):
        parse_collateral(as_bytes({**corpus, **change}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"a":1}', '{"tcb_info":"","tcb_info":""}', "{" * 100000])
def test_what_is_not_collateral_is_refused(text):
    """Other JSON and no JSON are refused."""
    with pytest.raises(FormatError):
        auditor.load_collateral(text.encode())


@pytest.mark.parametrize("change", [{"v": 2}, {"v": "1"}, {"fetched_at": -1}, {"fetched_at": "now"}, {"source": None},
                                    {"tcb_info": None}, {"more": ""}])  # fmt: skip
def test_our_own_form_is_strict(corpus, change):
    """A newer version, another type and an unknown key in our own file are refused."""
    value = {**parse_collateral(as_bytes(corpus)).to_json(), **change}
    with pytest.raises(FormatError) as caught:
        parse_collateral(as_bytes(value))

    assert ("format.newer" == caught.value.reason) == (change.get("v") == 2)


def test_the_signed_part_is_cut_out_verbatim(corpus):
    """The beacon's bytes are those between the quotes of the served document, whatever stands around them."""
    document = corpus["tcb_info"]
    signed = document[len('{"tcbInfo":') : document.index(',"signature"')].encode()
    body = signed.decode()
    signature = json.loads(document)["signature"]

    assert signed == signed_tcb_info(document) == signed_tcb_info(document.encode())
    assert signed == signed_tcb_info(f'{{"signature":"{signature}","tcbInfo":{body}}}')
    assert signed == signed_tcb_info(f' {{ "tcbInfo" : {body} , "signature" : "{signature}" }} ')
    assert b'{"a":"}\\"{"}' == signed_tcb_info('{"tcbInfo":{"a":"}\\"{"},"signature":""}')


@pytest.mark.parametrize("text", [
    "", "{}", '{"tcbInfo":{}}', '{"tcbInfo":{},"signature":"","x":1}', '{"tcbInfo":1,"signature":""}',
    '{"tcbInfo":{},"tcbInfo":{},"signature":""}', '{"enclaveIdentity":{},"signature":""}', '{"tcbInfo":{}',
])  # fmt: skip
def test_another_document_has_no_signed_part(text):
    """Anything but the two keys once each is refused."""
    with pytest.raises(FormatError):
        signed_tcb_info(text)


@pytest.mark.parametrize("value", [None, 1, b"bytes", bytearray(b"x"), "text", []])
def test_objects_of_another_type_are_refused_at_once(corpus, value):
    """CRLs are bytes, the other objects text: what is not would fail later, and as another exception."""
    sound = parse_collateral(json.dumps(corpus).encode())
    for name in ITEMS:
        if isinstance(value, bytes if name in ("root_ca_crl", "pck_crl") else str):
            continue
        with pytest.raises(FormatError) as caught:
            replace(sound, **{name: value})

        assert "collateral.file.malformed" == caught.value.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\x00" * 9, "the file is not JSON"),
        (b'{"a": 1, "a": 2}', "the file: a key occurs twice"),
    ],
)
def test_another_file_has_the_reason_of_collateral(content, words):
    """What is not JSON at all is no collateral either: the remedy names the files that are, not the rules of JSON."""
    with pytest.raises(FormatError) as caught:
        parse_collateral(content)

    assert ("collateral.file.malformed", f"this is no collateral: {words}") == (
        caught.value.reason,
        caught.value.message,
    )
