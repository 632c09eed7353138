"""The Python names that others may rely on: their arguments, their words, and what importing them costs."""

import importlib
import inspect
import pydoc
import subprocess
import sys

import pytest

from glasscase import auditor, client, errors, provider, runtime

# name: arguments in their order, those after * by keyword only; = has a default
CONTRACT = {
    auditor.load_collateral: "source *",
    auditor.load_policy: "source",
    auditor.load_evidence: "source",
    auditor.TrustAnchor.intel: "",
    auditor.TrustAnchor.insecure_root: "pem",
    auditor.verify_quote: "quote * collateral anchor policy at engine= measurement= nonce=",
    auditor.verify_evidence: "evidence * anchor policy at collateral= measurement= nonce= engine=",
    auditor.Verifier: "* anchor policy",
    auditor.Verifier.verify_quote: "self quote * collateral at",
    auditor.Verifier.verify_many: "self pairs * at threads=",
    provider.encrypt_file: "source target * key threads=",
    provider.decrypt_file: "source target * key threads=",
    provider.open_encrypted: "path * key",
    provider.measure: "bundle_or_manifest libpal=",
    provider.check_bundle: "path *",
    provider.seal: "secrets * to package_key owner at",
    client.context: "policy anchor= measurement= collateral_source= *",
}
# what an extra brings, what tests and tools need, and what only other commands need
OPTIONAL = {
    "aiohttp", "click", "h2", "httpx", "hypercorn", "jinja2", "numpy", "oras", "requests", "rich", "safetensors", "sigstore", "torch",
    "trustflow", "uvicorn",
}  # fmt: skip


@pytest.mark.parametrize("function", CONTRACT, ids=lambda function: function.__qualname__)
def test_arguments_of_the_contract(function):
    """Names, order and kind stay; another argument may come, with a default, by keyword."""
    wanted, keyword = {}, False
    for word in CONTRACT[function].split():
        keyword |= word == "*"
        if word != "*":
            wanted[word.rstrip("=")] = (keyword, word.endswith("="))
    parameters = inspect.signature(function).parameters
    found = {name: (one.kind is one.KEYWORD_ONLY, one.default is not one.empty) for name, one in parameters.items()}
    more = {name: kind for name, kind in found.items() if name not in wanted}

    assert wanted == {name: found.get(name) for name in wanted}
    assert [name for name, (named, _) in found.items() if not named] == [
        name for name, (named, _) in wanted.items() if not named
    ]
    assert all(kind == (True, True) for kind in more.values()), more


@pytest.mark.parametrize("module", [auditor, provider, client, errors, runtime], ids=lambda module: module.__name__)
def test_every_public_name_is_described(module):
    """Each function, class, method and property says in its own words what it gives."""
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    ours = [getattr(module, name) for name in names]
    ours = [one for one in ours if getattr(one, "__module__", "").startswith("glasscase")]
    silent = []
    for one in ours:
        inner = vars(one) if inspect.isclass(one) else {}
        parts = {one.__qualname__ if inspect.isroutine(one) or inspect.isclass(one) else "": one} | {
            f"{one.__qualname__}.{name}": part
            for name, part in inner.items()
            if not name.startswith("_")
            and (inspect.isroutine(part) or isinstance(part, property | classmethod | staticmethod))
        }
        silent += [name for name, part in parts.items() if not (getattr(part, "__doc__", "") or "").strip()]

    assert ours
    assert [] == silent


def test_help_of_the_package_leads_on():
    """help(glasscase) names the modules that are meant for others, and each is there."""
    text = pydoc.plain(pydoc.render_doc("glasscase"))

    for name in ("auditor", "provider", "client", "runtime", "errors"):
        assert f"from glasscase import {name}" in text
        importlib.import_module(f"glasscase.{name}")


def loaded_by(statement):
    """Return the names of the modules that a statement loads in a new Python."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_costs_little():
    """The package is its version; a role brings nothing optional, and no command line."""
    assert {"glasscase"} == loaded_by("import glasscase")
    for name in ("auditor", "provider", "client", "runtime", "errors"):
        loaded = loaded_by(f"import glasscase.{name}")

        assert set() == {module.partition(".")[0] for module in loaded} & OPTIONAL, name
        assert set() == {module for module in loaded if module.startswith(("glasscase.cli.", "glasscase.sim."))}, name
    assert not any(module.startswith("cryptography") for module in loaded_by("import glasscase.auditor"))
