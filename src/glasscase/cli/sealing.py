"""The verb `seal`: verify an enclave, then seal secrets to it; co-sign; join co-signatures.

Invariants: the envelope is written last, after the verdict, every check of sealing and the pinned policy; without a verified
verdict there is no output.
"""

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli import judging
from glasscase.cli.output import Output, verb
from glasscase.cli.reading import check_stdout, read_argument, result_beside, write_argument
from glasscase.errors import FormatError, UsageError

if TYPE_CHECKING:
    from glasscase.seal.sealing import SealedSecrets

_SECRETS_MAX = 1024 * 1024  # bytes of SECRETS.json, a request or an envelope
_EVIDENCE_MAX = 48 * 1024 * 1024
_KEY_MAX = 64 * 1024
_NEXT_TO_POLICY = ""  # --pin-platform without a file name


@verb(
    "seal",
    help="Verify an enclave, then seal secrets to it. SECRETS is JSON; or a co-signing request; or an envelope to join.",
)
@click.argument("secrets")
@click.option(
    "--evidence",
    metavar="FILE",
    help="Evidence of the enclave that is sealed to; it is verified first. Needed, as the next three, unless SECRETS is an envelope.",
)
@click.option("--policy", metavar="FILE", help="The policy that the enclave must satisfy.")
@click.option("--bundle", metavar="BUNDLE", help="The bundle that must run; its MRENCLAVE is recomputed.")
@click.option("--owner-key", metavar="FILE", help="Private key of an owner that the bundle has measured.")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the envelope goes.")
@click.option("--package-key", metavar="FILE", help="Key of the encrypted application, to go into the envelope.")
@click.option(
    "--model-key", "model_keys", multiple=True, metavar="FILE", help="Key of models that have their own; repeatable."
)
@click.option("--chain", metavar="PEM", help="Certificate chain for certificate mode own, leaf first.")
@click.option(
    "--cosign", "cosigners", multiple=True, metavar="FILE",
    help="Public key of an owner who shall sign too: writes FILE.HEX.cosign for him. With an envelope: one to join with it. Repeatable.",
)  # fmt: skip
@click.option(
    "--pin-platform", is_flag=False, flag_value=_NEXT_TO_POLICY, metavar="[FILE]",
    help="Write a copy of the policy that names this platform alone [default: POLICY.pinned.toml, if no FILE is given].",
)  # fmt: skip
@click.option(
    "--not-after", metavar="TIME", help="When the envelope expires: RFC 3339 or unix seconds [default: in 7 days]."
)
@click.option("--collateral", metavar="FILE", help="Intel's collateral [default: the evidence's own].")
@judging.NONCE
@judging.STATEMENT
@judging.ENGINE
@click.option("--insecure-anchor", metavar="PEM", help="Trust this root instead of Intel's. Everything says SIMULATED.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
def seal(out: Output, secrets: str, *, output: str, force: bool, **options: Any) -> int:
    """Write an envelope."""
    from glasscase.bundle.apart import require_outside
    from glasscase.seal import sealing

    check_stdout(out, output)
    if output != "-" and options["bundle"] is not None:
        require_outside(output, options["bundle"])
    content = read_argument(secrets, max_bytes=_SECRETS_MAX, what="secrets")
    if content[:2] == b"\xd8\x62":  # CBOR tag 98: an envelope
        others = [read_argument(path, max_bytes=_SECRETS_MAX, what="envelope") for path in options["cosigners"]]
        sealed, note = sealing.join([content, *others]), None  # nothing was verified here
        extra: dict[str, bytes] = {}
    else:
        sealed, extra, note = _Act(options).run(content, output)
    _check_names(output, extra, options["cosigners"])
    beside = {} if output == "-" else {output: sealed.data}
    write_together({**extra, **beside}, overwrite=force)
    if not beside:
        write_argument(out, output, sealed.data)
    result_beside(out, output, _json(sealed, extra, output, note), _text(sealed, extra, output, note))
    return 0


def _check_names(output: str, extra: dict[str, bytes], cosigners: tuple[str, ...]) -> None:
    """Raise UsageError("cli.usage.wrong") if two results would have one name, or a request for a co-signer none."""
    if output == "-" and cosigners and extra:
        raise UsageError(
            "cli.usage.wrong", "requests for co-signers are files beside the envelope", hint="give -o FILE"
        )
    if os.path.abspath(output) in (os.path.abspath(path) for path in extra):
        raise UsageError(
            "cli.usage.wrong", f"{output!r} would be envelope and pinned policy", hint="give them two names"
        )


def write_together(files: dict[str, bytes], *, overwrite: bool) -> None:
    """Write all files (0600), the last one last, or none of them; raises what writing one raises.

    With overwrite, files that were replaced before the disk failed stay replaced.
    """
    from glasscase.fs.atomic import atomic_file, storage_error

    waiting: list[tuple[str, Any]] = []
    written: list[str] = []
    path = ""
    try:
        for path, data in files.items():
            context = atomic_file(path, mode=0o600, overwrite=overwrite)
            file = context.__enter__()
            waiting.append((path, context))
            file.write(data)
        while waiting:
            path, context = waiting.pop(0)
            context.__exit__(None, None, None)
            written.append(path)
    except BaseException as error:
        for _, context in waiting:
            with contextlib.suppress(Exception):
                context.__exit__(type(error), error, None)
        for done in written if not overwrite else ():
            os.unlink(done)
        if isinstance(error, OSError):
            raise storage_error(error, path) from None
        raise


class _Act:
    """One act of sealing or co-signing, from the options."""

    def __init__(self, options: dict[str, Any]) -> None:
        for name in ("evidence", "policy", "bundle", "owner_key"):
            if options[name] is None:
                raise UsageError(
                    "cli.usage.wrong", f"missing option --{name.replace('_', '-')}", hint="glasscase seal --help"
                )
        self._options = options

    def run(self, content: bytes, output: str) -> "tuple[SealedSecrets, dict[str, bytes], str]":
        """Return the envelope, further files to write, and a note for people."""
        from datetime import UTC, datetime

        from glasscase.bundle.check import check_bundle
        from glasscase.cli.pinned import trusted_pins
        from glasscase.cli.releases import known_measurements
        from glasscase.seal import sealing

        options = self._options
        request = sealing.is_request(content)
        secrets = {} if request else parse_secrets(content)
        owner = read_owner_key(options["owner_key"])
        at = datetime.fromtimestamp(int(time.time()), UTC)
        bundle = check_bundle(options["bundle"], runtimes=trusted_pins())
        verdict = self._verdict(bundle, at)
        common: dict[str, Any] = {
            "to": verdict.require(), "owner": owner, "at": at, "bundle": bundle, "known": known_measurements(),
        }  # fmt: skip
        note = "SIMULATED  the trust anchor is not Intel's" if verdict.simulated else ""
        extra = self._pin(verdict) if options["pin_platform"] is not None else {}
        if request:
            return sealing.cosign(content, **common), extra, note
        offer = sealing.Offer(secrets, self._package_key(), self._model_keys(), self._chain())
        signers = tuple(read_public_key(path) for path in options["cosigners"])
        until = self._not_after()
        sealed, requests = sealing.propose(offer, signers=signers, not_after=until, **common)
        extra |= {f"{output}.{key.hex()[:16]}.cosign": data for key, data in requests.items()}
        return sealed, extra, note

    def _verdict(self, bundle: Any, at: Any) -> Any:
        from glasscase.cli.verifying import anchor_argument, collateral_argument, nonce_argument
        from glasscase.evidence.format import parse_evidence
        from glasscase.verify.evidence import verify_evidence
        from glasscase.verify.policy import POLICY_MAX, parse_policy

        options = self._options
        evidence = parse_evidence(read_argument(options["evidence"], max_bytes=_EVIDENCE_MAX, what="evidence"))
        collateral = options["collateral"]
        return verify_evidence(
            evidence,
            anchor=anchor_argument(options["insecure_anchor"]),
            policy=parse_policy(read_argument(options["policy"], max_bytes=POLICY_MAX, what="policy")),
            at=at,
            collateral=collateral_argument(collateral, evidence.quote) if collateral is not None else None,
            measurement=bundle,
            nonce=nonce_argument(options["nonce"]),
            engine=options["engine"],
            statements=[
                read_argument(path, max_bytes=_SECRETS_MAX, what="statement") for path in options["statements"]
            ],
        )

    def _package_key(self) -> bytes | None:
        path = self._options["package_key"]
        return read_raw_key(path) if path is not None else None

    def _model_keys(self) -> tuple[bytes, ...]:
        return tuple(read_raw_key(path) for path in self._options["model_keys"])

    def _chain(self) -> tuple[bytes, ...]:
        path = self._options["chain"]
        if path is None:
            return ()
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        try:
            found = x509.load_pem_x509_certificates(read_argument(path, max_bytes=_SECRETS_MAX, what="chain"))
        except ValueError:
            raise FormatError("seal.chain.wrong", f"{path!r} holds no certificates in PEM") from None
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)

    def _not_after(self) -> Any:
        from glasscase.cli.verifying import time_argument

        return time_argument(self._options["not_after"]) if self._options["not_after"] is not None else None

    def _pin(self, verdict: Any) -> dict[str, bytes]:
        """Return path and bytes of the policy that names the platform of this verdict."""
        from glasscase.verify.policy import POLICY_MAX

        path = self._options["policy"]
        target = self._options["pin_platform"] or f"{path.removesuffix('.toml')}.pinned.toml"
        if os.path.lexists(target):
            raise UsageError("fs.output.exists", f"{target!r} exists", hint="choose another name or remove it first")
        enclave = verdict.require()
        if not enclave.platform_ids:
            raise UsageError("seal.platform.unnamed", "the quote names no platform")
        return {
            target: pinned_policy(read_argument(path, max_bytes=POLICY_MAX, what="policy"), enclave.platform_ids[0])
        }


def pinned_policy(text: bytes, platform: str) -> bytes:
    """Return the policy file with platforms = [platform] and everything else as it is."""
    import dataclasses

    from glasscase.verify.policy import parse_policy

    lines = text.decode("utf-8")
    line = f'platforms = ["{platform}"]'
    pinned, count = re.subn(r"(?m)^[ \t]*platforms[ \t]*=[ \t]*\[[^\]]*\]", line, lines)
    if count == 0:
        pinned, count = re.subn(r"(?m)^(\[platform\][^\n]*)$", rf"\1\n{line}", lines)
    if count == 0:
        pinned = f"{lines.rstrip()}\n\n[platform]\n{line}\n"
    data = pinned.encode("utf-8")
    if parse_policy(data) != dataclasses.replace(parse_policy(text), platforms=(platform,)):
        raise UsageError(
            "seal.platform.unnamed", "the policy is spelt so that it cannot be pinned: set platforms by hand"
        )
    return data


def parse_secrets(content: bytes) -> dict[str, str | bytes]:
    """Return the secrets in a JSON object: name to text, or name to {"base64": "..."}.

    Raises FormatError("seal.contents.malformed") without quoting a secret.
    """
    import base64

    from glasscase.codec import strictjson
    from glasscase.seal.envelope import is_secret_name

    try:
        value = strictjson.parse(content, max_bytes=_SECRETS_MAX, what="secrets")
    except FormatError as error:
        raise _wrong_secrets(error.message) from None
    if not isinstance(value, dict):
        raise _wrong_secrets("the secrets are not a JSON object")
    found: dict[str, str | bytes] = {}
    for name, secret in value.items():
        if not is_secret_name(name):
            raise _wrong_secrets(f"{name[:64]!r} cannot be the name of a secret")
        encoded = secret.get("base64") if isinstance(secret, dict) and len(secret) == 1 else None
        if isinstance(secret, str):
            found[name] = secret
        elif isinstance(encoded, str):
            plain = encoded.rstrip("=").replace("-", "+").replace("_", "/")
            try:
                found[name] = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
            except ValueError:  # binascii.Error is one; text that is not ASCII raises another
                raise _wrong_secrets(f"the secret {name[:64]!r} is not base64") from None
        else:
            raise _wrong_secrets(f'the secret {name[:64]!r} is neither text nor {{"base64": ...}}')
    return found


def _wrong_secrets(message: str) -> FormatError:
    return FormatError(
        "seal.contents.malformed", message, hint='SECRETS is like {"password": "text", "key": {"base64": "AAEC"}}'
    )


def read_owner_key(path: str) -> bytes:
    """Return the 32-byte private key in an owner's PEM file, which only he may read."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from glasscase.fs.atomic import read_private

    pem = read_private(path, max_bytes=_KEY_MAX, what="owner key")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            "seal.owner.malformed", f"{path!r} is not an Ed25519 private key in PEM, not encrypted",
            hint="make one: glasscase keygen --kind owner -o FILE",
        )  # fmt: skip
    return key.private_bytes_raw()


def read_public_key(path: str) -> bytes:
    """Return the 32-byte public key in an owner's .pub file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = read_argument(path, max_bytes=_KEY_MAX, what="owner public key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError("seal.owner.malformed", f"{path!r} is not an Ed25519 public key in PEM", hint="give FILE.pub")
    return key.public_bytes_raw()


def read_raw_key(path: str) -> bytes:
    """Return the 32 bytes of a package or model key file."""
    from glasscase.cli.keys import read_package_key
    from glasscase.fs.atomic import read_private

    read_package_key(path)
    return read_private(path, max_bytes=_KEY_MAX, what="key")


def _json(sealed: "SealedSecrets", extra: dict[str, bytes], output: str, note: str | None) -> dict[str, Any]:
    value = {
        "id": sealed.id.hex(),
        "mrenclave": sealed.mrenclave.hex(),
        "not_after": sealed.not_after,
        "digest": sealed.digest.hex(),
        "complete": sealed.complete,
        "path": output,
        "written": sorted(extra),
        "simulated": None if note is None else bool(note),
    }
    return {**value, "notice": note} if note else value


def _text(sealed: "SealedSecrets", extra: dict[str, bytes], output: str, note: str | None) -> str:
    from glasscase.fs.atomic import shell_word

    lines = [note] if note else []
    lines += [
        f"sealed    {output} for MRENCLAVE {sealed.mrenclave.hex()}",
        f"envelope  {sealed.digest.hex()}, until {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(sealed.not_after))}",
    ]
    lines += [f"wrote     {path}" for path in sorted(extra)]
    if sealed.complete:
        lines.append(f"next      glasscase provision NAME {shell_word(output)}")
    else:
        lines.append(
            f"next      the other owners sign; then: glasscase seal {shell_word(output)} --cosign THEIRS -o COMPLETE"
        )
    return "\n".join(lines)
