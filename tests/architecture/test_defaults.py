"""The defaults and limits that the documents name are those of the code."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from glasscase.bundle import build, project
from glasscase.codec import stricttoml
from glasscase.collateral import http, model
from glasscase.core import chunks
from glasscase.enclave import attest, bootstrap, connections, gateway, health, http2, program, running
from glasscase.evidence import attestation
from glasscase.evidence import model as evidence
from glasscase.fs import walk
from glasscase.hosting import collect, logwriter, state, stopping
from glasscase.ratls import judging, sources
from glasscase.seal import manifest, package, sealing
from glasscase.verify.policy import DAY_S, POLICY_MAX, Policy

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLES = {"app": project.App, "keys": project.Keys, "enclave": project.Enclave, "server": project.Server}
MIB, KIB, HOUR_S = 1 << 20, 1 << 10, 3600


def text_of(name):
    return " ".join((DOCS / f"{name}.md").read_text(encoding="utf-8").split())


def cells(name):
    """Return the cells of each row of the tables of a document."""
    lines = (DOCS / f"{name}.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines if line.startswith("|")]


@pytest.mark.parametrize("table", TABLES)
def test_defaults_of_the_project(table):
    """docs/bundle-format.md gives every field of glasscase.toml and its default."""
    said = next(row[1] for row in cells("bundle-format") if row[0] == f"`{table}`")
    for field in msgspec.structs.fields(TABLES[table]):
        default = field.default
        if default in (None, msgspec.NODEFAULT):
            assert f"`{field.name}`" in said
        else:
            shown = json.dumps(list(default) if isinstance(default, tuple) else default)
            assert f"`{field.name}` = {shown}" in said


def test_defaults_of_a_policy():
    """docs/policy.md gives the default of every key that has one."""
    found = {}
    for row in cells("policy"):
        if len(row) == 4 and row[2].startswith("`"):
            keys, values = (re.findall(r"`([^`]*)`", cell) for cell in row[1:3])
            found |= dict(zip(keys, map(json.loads, values), strict=True))
    policy = Policy(bundle=True)
    days = {"collateral_max_age": policy.collateral_max_age_s, "crl_max_age": policy.crl_max_age_s}

    assert found == {
        "bundle": False,
        "insecure_any": policy.insecure_any,
        "accept": list(policy.accept),
        "advisories": list(policy.advisories),
        "tcb_evaluation_min": policy.tcb_evaluation_min,
        "platforms": list(policy.platforms),
        **{name: f"{age // DAY_S}d" for name, age in days.items()},
        "evidence_max_age": f"{policy.evidence_max_age_s // HOUR_S}h",
        "nonce": policy.nonce,
        "insecure_debug": policy.insecure_debug,
        "provisioned": policy.provisioned,
        "owners": list(policy.owners),
        "require": policy.statements_require,
        "keys": list(policy.statements_keys),
    }


@pytest.mark.parametrize(
    ("document", "sentence", "value"),
    [
        ("provisioning", "head of a request | {} KiB", gateway.HEADERS_MAX // KIB),
        ("provisioning", "body of POST evidence, POST provision | {} KiB", gateway.ASK_MAX // KIB),
        ("provisioning", "1 MiB; {} s; at most", int(gateway.UPLOAD_TIMEOUT_S)),
        ("provisioning", "at most {} on their way, one more ends the oldest", gateway.UPLOADS_MAX),
        ("provisioning", "envelopes that wait for their answer | {};", gateway.JUDGED_MAX),
        ("provisioning", "connection that is being closed | {} s", connections.CLOSE_S),
        ("provisioning", "before the end of their TLS handshake | {};", connections.HANDSHAKES_MAX),
        ("provisioning", "connections after it | {:,};", connections.CONNECTIONS_MAX),
        ("provisioning", "that the application has | {:,};", running.RUNNING_MAX),
        ("provisioning", "never has more than {:,} requests", running.RUNNING_MAX),
        ("provisioning", "of 256 KiB is cut to {})", connections.TLS_BUFFER_SIZE // KIB),
        ("provisioning", "at half-life ({} h)", attest.LIFETIME_S // 2 // HOUR_S),
        ("provisioning", "dated back by {} s", attest.BACKDATE_S),
        ("provisioning", "exit code {} if a file of the measured import table", bootstrap.EXIT_CODE),
        ("provisioning", "at most {} requests of one connection at a time", http2.STREAMS_MAX),
        ("provisioning", "no 2xx or 3xx within {} s", int(health.DEADLINE_S)),
        ("provisioning", "cuts it off {} s after the drain", int(program.GRACE_S)),
        ("evidence-format", "quote {:,};", attestation.QUOTE_MAX),
        ("evidence-format", "claims {:,};", attestation.CLAIMS_MAX),
        ("evidence-format", "issuer chains {} KiB", model.CHAIN_MAX // KIB),
        ("evidence-format", "CRLs {} MiB", model.CRL_MAX // MIB),
        ("evidence-format", "evidence {} MiB as CBOR", evidence.EVIDENCE_CBOR_MAX // MIB),
        ("evidence-format", "{} MiB as JSON", evidence.EVIDENCE_JSON_MAX // MIB),
        ("evidence-format", "`exp - nbf` is at most {} hours", attestation.SESSION_MAX_S // HOUR_S),
        ("evidence-format", "One deadline of {} s holds for everything", int(http.DEADLINE_S)),
        ("bundle-format", "at most {} bytes, 255 a part", walk.PATH_MAX),
        ("bundle-format", "bytes, {} a part, 64 parts", walk.PART_MAX),
        ("bundle-format", "a part, {} parts. A TOML key", walk.DEPTH_MAX),
        ("bundle-format", "A TOML key has at most {} parts", stricttoml.PARTS_MAX),
        ("bundle-format", "`glasscase.toml`, {} KiB at most", project.MAX_BYTES // KIB),
        ("bundle-format", "all but bundle.json and app.sig, at most {:,}", walk.FILES_MAX),
        ("bundle-format", "leaves less than {} MiB to the program", build.HEAP_TO_START // MIB),
        ("stream-format", "Every chunk holds {:,} bytes of plaintext", chunks.CHUNK_SIZE),
        ("stream-format", "length of the prefix, {}", chunks.HEADER_SIZE - 56),
        ("stream-format", "at most 2^{}; for kind 0", chunks.SIZE_MAX.bit_length() - 1),
        ("stream-format", "context is at most {:,} bytes", chunks.CONTEXT_MAX),
        ("stream-format", "at most {} MiB and 1,000,000 entries", manifest.MANIFEST_MAX // MIB),
        ("stream-format", "MiB and {:,} entries", manifest.ENTRIES_MAX),
        ("stream-format", "reads a file of up to {} MiB once", package._READ_ONCE // MIB),
        ("policy", "TOML, at most {} KiB", POLICY_MAX // KIB),
        ("operating", "used again for {} hours", collect.FRESH_S // HOUR_S),
        ("operating", "At {} MiB that becomes", logwriter.LIMIT // MIB),
        ("operating", "({} s more than the `drain`", int(stopping.STOP_MARGIN_S)),
        ("operating", "so {} s by default", int(stopping.STOP_MARGIN_S + stopping.DRAIN_S)),
        ("operating", "wait for each other for {} seconds", {5.0: "five"}[state.LOCK_WAIT_S]),
        ("clients", "again after {} hours", sources.REFRESH_S // HOUR_S),
        ("clients", "may be up to {} s behind", judging.SKEW_S),
        ("commands", "| in {} days |", sealing.VALID_S // DAY_S),
    ],
)
def test_limits(document, sentence, value):
    """A sentence of a document has the number that the code has."""
    assert sentence.format(value) in text_of(document)
