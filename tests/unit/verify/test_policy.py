"""The policy file is strict: it always names an enclave, and no key is taken for another or left out silently."""

import hashlib
from types import SimpleNamespace

import pytest

from glasscase import auditor
from glasscase.errors import FormatError
from glasscase.verify.policy import Policy
from glasscase.verify.policyfile import policy_text

HEX = "ab" * 32
HEAD = "version = 1\n[measurement]\n"
NAMED = HEAD + f'mrenclave = "{HEX}"\n'


def load(text):
    return auditor.load_policy(text.encode())


def test_the_shortest_policy_has_the_strict_defaults():
    """A policy with a measurement alone has every default of the documentation."""
    policy = load(NAMED)

    assert (bytes.fromhex(HEX),) == policy.mrenclave
    assert (("UpToDate",), (), 0, ()) == (policy.accept, policy.advisories, policy.tcb_evaluation_min, policy.platforms)
    assert (7 * 86400, 31 * 86400, 86400) == (
        policy.collateral_max_age_s, policy.crl_max_age_s, policy.evidence_max_age_s,
    )  # fmt: skip
    assert not any((policy.nonce, policy.insecure_debug, policy.insecure_any, policy.provisioned, policy.owners))
    assert (0, ()) == (policy.statements_require, policy.statements_keys)
    assert hashlib.sha256(NAMED.encode()).digest() == policy.sha256


def test_every_key_is_read():
    """The whole file of the documentation, every key set, comes back field by field."""
    policy = load(f"""version = 1
[measurement]
bundle = true
bundle_id = "{HEX}"
mrenclave = ["{HEX}", "{"cd" * 32}"]
mrsigner = "{HEX}"
isv_prod_id = 1
isv_svn_min = 3
[platform]
accept = ["UpToDate", "SWHardeningNeeded"]
advisories = ["INTEL-SA-00615"]
tcb_evaluation_min = 17
platforms = ["{"0f" * 16}"]
[freshness]
collateral_max_age = "36500d"
crl_max_age = "12h"
evidence_max_age = "off"
nonce = true
[enclave]
insecure_debug = true
[instance]
provisioned = ["{HEX}"]
owners = ["{HEX}"]
[statements]
require = 1
keys = ["{HEX}", "{"cd" * 32}"]
""")

    assert policy.bundle and policy.nonce and policy.insecure_debug
    assert (36500 * 86400, 12 * 3600, None) == (
        policy.collateral_max_age_s, policy.crl_max_age_s, policy.evidence_max_age_s,
    )  # fmt: skip
    assert ((bytes.fromhex(HEX),), ("0f" * 16,), 17) == (
        policy.provisioned,
        policy.platforms,
        policy.tcb_evaluation_min,
    )
    assert (1, 2) == (policy.statements_require, len(policy.statements_keys))


@pytest.mark.parametrize(
    "measurement",
    [
        "",
        "bundle = false",
        "mrenclave = []",
        f'mrsigner = "{HEX}"',
        f'mrsigner = "{HEX}"\nisv_prod_id = 1',
        "isv_prod_id = 1\nisv_svn_min = 1",
        f'bundle_id = "{HEX}"',
        f'mrenclave = "{HEX}"\nbundle_id = "{HEX}"',
        f'insecure_any = true\nmrenclave = "{HEX}"',
        "insecure_any = true\nbundle = true",
        "insecure_any = true\nisv_svn_min = 0",
        "insecure_any = false",
    ],
)
def test_a_policy_that_names_no_enclave_is_refused(measurement):
    """Nothing set, half an identity, or insecure_any beside an identity is refused."""
    with pytest.raises(FormatError) as caught:
        load(HEAD + measurement)

    assert "policy.identity.incomplete" == caught.value.reason


@pytest.mark.parametrize("measurement", [
    "bundle = true", f'mrsigner = "{HEX}"\nisv_prod_id = 0\nisv_svn_min = 0', "insecure_any = true",
    f'bundle = true\nbundle_id = "{HEX}"', f'bundle = true\nmrsigner = "{HEX}"',
])  # fmt: skip
def test_a_policy_that_names_an_enclave_is_read(measurement):
    """Each of the complete identities is accepted."""
    assert isinstance(load(HEAD + measurement), Policy)


def test_no_measurement_table_is_refused():
    """A policy without [measurement] names nothing; the error says how to write one."""
    with pytest.raises(FormatError, match=r"no \[measurement\]") as caught:
        load("version = 1\n")

    assert "policy.identity.incomplete" == caught.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml at all",
        f'[measurement]\nmrenclave = "{HEX}"',
        NAMED + "unknown = 1",
        NAMED + "[extra]\nx = 1",
        NAMED + "[platform]\nacept = []",
        NAMED + '[platform]\naccept = "UpToDate"',
        NAMED + '[platform]\naccept = ["Revoked"]',
        NAMED + '[platform]\naccept = ["uptodate"]',
        NAMED + '[platform]\nadvisories = ["any", "INTEL-SA-00001"]',
        NAMED + "[platform]\nadvisories = [1]",
        NAMED + "[platform]\ntcb_evaluation_min = -1",
        NAMED + "[platform]\ntcb_evaluation_min = true",
        NAMED + "[platform]\ntcb_evaluation_min = 1.0",
        NAMED + '[platform]\nplatforms = ["any"]',
        NAMED + f'[platform]\nplatforms = ["any-intel", "{"0f" * 16}"]',
        NAMED + f'[platform]\nplatforms = ["{"0F" * 16}"]',
        NAMED + "[freshness]\ncollateral_max_age = 7",
        NAMED + '[freshness]\ncollateral_max_age = "off"',
        NAMED + '[freshness]\ncrl_max_age = "off"',
        NAMED + '[freshness]\ncollateral_max_age = "7"',
        NAMED + '[freshness]\ncollateral_max_age = "-7d"',
        NAMED + '[freshness]\ncollateral_max_age = "7 d"',
        NAMED + '[freshness]\ncollateral_max_age = "07d"',
        NAMED + '[freshness]\ncollateral_max_age = "0d"',
        NAMED + '[freshness]\ncollateral_max_age = "\u0667d"',
        NAMED + '[freshness]\nevidence_max_age = "OFF"',
        NAMED + "[freshness]\nevidence_max_age = false",
        NAMED + "[freshness]\nnonce = 1",
        NAMED + '[enclave]\ninsecure_debug = "true"',
        NAMED + "[instance]\nprovisioned = []",
        NAMED + "[instance]\nprovisioned = 1",
        NAMED + '[instance]\nowners = ["00"]',
        NAMED + "[statements]\nrequire = 1",
        NAMED + f'[statements]\nrequire = 1\nkeys = ["{HEX}", "{HEX}"]',
        NAMED + "[statements]\nrequire = true",
        "platform = 1\n" + NAMED,
        HEAD + f'mrenclave = "{HEX.upper()}"',
        HEAD + f'mrenclave = "{HEX[:-2]}"',
        HEAD + f'mrenclave = "{HEX}\\n"',
        HEAD + f'mrenclave = ["{HEX}", 1]',
        HEAD + f'mrenclave = "{HEX}"\nmrenclave = "{HEX}"',
        HEAD + "bundle = 1",
        HEAD + f'bundle = true\nmrsigner = ["{HEX}"]',
        HEAD + "bundle = true\nisv_svn_min = 65536",
        NAMED + "#" * 65536,
        "version = " + "1" * 5000,  # more digits than Python turns into a number
        HEAD + "bundle = true\nx = " + "[" * 5000 + "]" * 5000,
    ],
)
def test_anything_else_is_refused(text):
    """Unknown keys, other types and other values are refused as malformed."""
    with pytest.raises(FormatError) as caught:
        load(text)

    assert caught.value.reason in ("policy.file.malformed", "codec.version.malformed")
    assert 2 == caught.value.exit_code


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        (HEAD + "bundle = 1", "bundle in [measurement] is 1", "true or false"),
        (HEAD + 'bundle = "true"', "is 'true'", "true or false"),
        (HEAD + f'mrenclave = "{HEX.upper()}"', f"is '{HEX.upper()}'", "64 lower-case hex digits"),
        (HEAD + f'mrenclave = "{HEX * 9}"', f"is '{HEX}'...", "64 lower-case hex digits"),
        (HEAD + "mrenclave = true", "is true", "64 lower-case hex digits"),
        (HEAD + f'mrenclave = ["{HEX}", 7]', "an item of mrenclave in [measurement] is 7", "64 lower-case hex digits"),
        (HEAD + "bundle = true\nisv_svn_min = 70000", "is 70000", "an integer from 0 to 65535"),
        (NAMED + '[platform]\naccept = "UpToDate"', "is 'UpToDate'", "a list"),
        (NAMED + '[platform]\naccept = ["uptodate"]', "'uptodate'", "UpToDate, SWHardeningNeeded"),
        (NAMED + "[platform]\nadvisories = [[]]", "is an empty list", "a name"),
        (NAMED + '[platform]\nplatforms = ["any"]', "is 'any'", '"any-intel" or 32 lower-case hex digits'),
        (NAMED + "[platform]\nacept = []", "unknown key 'acept' in [platform]", "accept, advisories"),
        (NAMED + '[freshness]\ncrl_max_age = "0d"', "is '0d'", 'such as "7d"'),
        (NAMED + "[freshness]\nevidence_max_age = 2024-01-01", "is 2024-01-01", '"off"'),
        (NAMED + "[freshness]\nevidence_max_age = {d = 1}", "is a table", '"off"'),
        (NAMED + "[statements]\nrequire = 2", "require is 2", "keys has 0"),
        (NAMED + "[Platform]\n", "unknown key 'Platform'", "platform, freshness"),
        ("platform = 1\n" + NAMED, "platform is 1", "a table"),
        (NAMED + "x" * 60000 + " = 1", f"unknown key '{'x' * 64}'...", "bundle_id"),
        ('version = "1"\n', "version '1'", "the integer 1"),
        ("version = true\n", "version True", "the integer 1"),
    ],
)
def test_the_message_says_what_was_found_and_what_was_expected(text, found, expected):
    """Whoever mistyped sees his own word, cut if it is long, beside what may stand there."""
    with pytest.raises(FormatError) as caught:
        load(text)

    before, _, after = caught.value.message.partition("expected" if "expected" in caught.value.message else ", but")
    assert found in before
    assert expected in after
    assert len(caught.value.message) < 400


def test_bytes_that_are_not_text_are_refused():
    """A policy that is not UTF-8 is malformed."""
    with pytest.raises(FormatError) as caught:
        auditor.load_policy(b"\xff\xfe" + NAMED.encode())

    assert "policy.file.malformed" == caught.value.reason


@pytest.mark.parametrize(("version", "reason"), [
    ("2", "format.newer"), ("0", "codec.version.malformed"), ('"1"', "codec.version.malformed"),
    ("true", "codec.version.malformed"), ("1.0", "codec.version.malformed"),
])  # fmt: skip
def test_another_version_is_refused_before_all_else(version, reason):
    """A newer policy is said to be newer, whatever else it holds."""
    with pytest.raises(FormatError) as caught:
        load(f"version = {version}\nwhatever = 1\n")

    assert reason == caught.value.reason


def test_a_policy_made_in_code_is_checked_too():
    """The constructor has the same rules as the file."""
    for fields in ({}, {"insecure_any": True, "bundle": True}, {"isv_svn_min": 1}):
        with pytest.raises(FormatError):
            Policy(**fields)
    with pytest.raises(FormatError):
        Policy(bundle=True, accept=("Revoked",))


@pytest.mark.parametrize("fields", [
    {"provisioned": [bytes(32)]}, {"provisioned": b"x" * 32}, {"provisioned": None}, {"provisioned": (b"short",)},
    {"mrenclave": bytes(64)}, {"mrenclave": ("ab" * 32,)}, {"mrsigner": "ab" * 32}, {"isv_svn_min": -1},
    {"isv_svn_min": True}, {"platforms": ["any-intel"]}, {"platforms": "0f" * 32}, {"advisories": "INTEL-SA-00615"},
    {"advisories": ["any"]}, {"owners": [bytes(32)]}, {"statements_keys": (b"k",)}, {"collateral_max_age_s": float("inf")},
    {"evidence_max_age_s": -1}, {"nonce": 0}, {"insecure_debug": "no"}, {"statements_require": False},
])  # fmt: skip
def test_a_value_of_another_form_is_never_taken_for_not_checked(fields):
    """A list for a tuple, text for a list of texts and the like are refused: rules would compare them unlike what they say."""
    with pytest.raises(FormatError) as caught:
        Policy(**{"mrenclave": (bytes(32),), **fields})

    assert "policy.file.malformed" == caught.value.reason


def test_the_policy_written_for_a_bundle_accepts_exactly_that_bundle(lab):
    """The written file is read without a change, names bundle, signer, product and SVN, and is strict in all else."""
    checked = lab.bundle()
    checked.bundle.index = SimpleNamespace(name="app")
    policy = load(policy_text(checked))

    assert (True, b"b" * 32, lab.mrsigner, 1, 3) == (
        policy.bundle, policy.bundle_id, policy.mrsigner, policy.isv_prod_id, policy.isv_svn_min,
    )  # fmt: skip
    defaults = Policy(bundle=True)
    for name in (
        "accept",
        "advisories",
        "collateral_max_age_s",
        "crl_max_age_s",
        "evidence_max_age_s",
        "insecure_debug",
    ):
        assert getattr(defaults, name) == getattr(policy, name)
    assert [] == lab.failed(lab.judge(policy=policy, measurement=checked))
    other = lab.bundle(bundle=SimpleNamespace(id=b"c" * 32))
    assert ["policy.bundle_id.mismatch"] == lab.failed(lab.judge(policy=policy, measurement=other))
    unsigned = lab.bundle(sigstruct=None)
    unsigned.bundle.index = SimpleNamespace(name="app")
    assert load(policy_text(unsigned)).mrsigner is None
