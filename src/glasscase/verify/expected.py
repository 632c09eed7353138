"""What a bundle or a measurement says that the enclave must be: recomputed from bytes, the other half of every comparison.

Source: docs/policy.md, "measurement" and "enclave".
"""

from typing import Any, NamedTuple

from glasscase.errors import UsageError

_MISC_MASK = 0xFFFF_FFFF


class Expected(NamedTuple):
    """The facts of a recomputed enclave. mrsigner and bundle_id: 32 bytes or None where nothing says so.

    bundle: the checked bundle itself, or None. problems: what is wrong with the bundle itself. insecure: its relaxations,
    derived from manifest and enclave.cbor.
    """

    mrenclave: bytes
    isv_prod_id: int
    isv_svn: int
    xfrm: int
    xfrm_mask: int
    misc_select: int
    misc_mask: int
    mrsigner: bytes | None
    bundle_id: bytes | None
    insecure: tuple[str, ...]
    problems: tuple[str, ...]
    measurement: Any
    bundle: Any


def expected_of(measurement: Any) -> Expected | None:
    """Return the facts of a CheckedBundle or a Measurement, or None for None.

    Raises UsageError("policy.argument.wrong") for anything else.
    """
    if measurement is None:
        return None
    bundle = measurement if hasattr(measurement, "measurement") else None
    computed = bundle.measurement if bundle is not None else measurement
    sigstruct = bundle.sigstruct if bundle is not None else None
    try:
        signed = sigstruct if sigstruct is not None else computed
        found = Expected(
            mrenclave=bytes(computed.mrenclave),
            isv_prod_id=int(signed.isv_prod_id),
            isv_svn=int(signed.isv_svn),
            xfrm=int(signed.xfrm),
            xfrm_mask=int(signed.xfrm_mask),
            misc_select=int(signed.misc_select),
            misc_mask=int(signed.misc_mask) if sigstruct is not None else _MISC_MASK,
            mrsigner=bytes(sigstruct.mrsigner) if sigstruct is not None else None,
            bundle_id=bytes(bundle.bundle.id) if bundle is not None else None,
            insecure=tuple(bundle.insecure) if bundle is not None else (),
            problems=_problems(bundle, sigstruct, computed),
            measurement=computed,
            bundle=bundle,
        )
    except (AttributeError, TypeError, ValueError):
        raise UsageError(
            "policy.argument.wrong",
            f"measurement is a checked bundle or a measurement, not {type(measurement).__name__}",
        ) from None
    return found


def _problems(bundle: Any, sigstruct: Any, computed: Any) -> tuple[str, ...]:
    if bundle is None:
        return ()
    found = [f"{problem.text} [{problem.id}]" for problem in bundle.problems]
    if sigstruct is not None and bytes(sigstruct.mrenclave) != bytes(computed.mrenclave):
        found.append("app.sig signs another MRENCLAVE than the bundle has")
    return tuple(found)
