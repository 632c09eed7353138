"""Writing a policy file for a bundle: strict, every key named, ready to be read by a person.

Source: docs/policy.md.
"""

from typing import Any


def policy_text(checked: Any) -> str:
    """Return the TOML text of a strict policy that accepts exactly this checked bundle."""
    signature = checked.sigstruct
    lines = [
        "# Which enclave is accepted, and under which conditions. docs/policy.md explains every key.",
        f"# bundle {checked.bundle.index.name}, MRENCLAVE {checked.measurement.mrenclave.hex()}",
        "version = 1",
        "",
        "[measurement]",
        "bundle = true                  # equals the bundle given with --bundle, recomputed",
        f'bundle_id = "{checked.bundle.id.hex()}"',
    ]
    if signature is not None:
        lines += [
            f'mrsigner = "{signature.mrsigner.hex()}"',
            f"isv_prod_id = {signature.isv_prod_id}",
            f"isv_svn_min = {signature.isv_svn}",
        ]
    lines += [
        "",
        "[platform]",
        'accept = ["UpToDate"]',
        "advisories = []                # below UpToDate every advisory must be listed",
        "tcb_evaluation_min = 0",
        'platforms = ["any-intel"]      # better: the PPID or platform instance id of the machine',
        "",
        "[freshness]",
        'collateral_max_age = "7d"',
        'crl_max_age = "31d"',
        'evidence_max_age = "24h"',
        "nonce = false",
        "",
        "[enclave]",
        "insecure_debug = false         # true only in tests: the operator can read a debug enclave",
        "",
        "[instance]",
        "provisioned = false",
        "owners = []",
        "",
        "[statements]",
        "require = 0",
        "keys = []",
        "",
    ]
    return "\n".join(lines)
