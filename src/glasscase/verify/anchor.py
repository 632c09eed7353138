"""The trust anchor: which root a quote must lead to. It comes from the caller, never from the evidence.

Invariants: there is always at least one root; an anchor that is not Intel's says so in every verdict, as SIMULATED.
Source: docs/policy.md, "Anchors".
"""

from typing import TYPE_CHECKING, Any, NoReturn

from glasscase.errors import FormatError, UsageError

if TYPE_CHECKING:
    from glasscase.core.dcap import Anchor

ROOT_MAX = 64 * 1024  # bytes of PEM


class NotMadeError(UsageError, TypeError):
    """A class was called that only its own functions make. An Error, as all wrong use is; a TypeError, as Python has it."""

    def __init__(self, message: str) -> None:
        super().__init__("policy.argument.wrong", message)


class TrustAnchor:
    """A root of trust. Made by intel() or insecure_root(); immutable.

    name: "intel", or "insecure-root:" and the SHA-256 of the certificate. simulated: whether it is not Intel's.
    """

    name: str
    simulated: bool
    _certificates: tuple[bytes, ...]
    _key: bytes

    def __init__(self) -> None:
        """Refuse: an anchor is named in words."""
        raise NotMadeError("use TrustAnchor.intel() or TrustAnchor.insecure_root(pem)")

    @classmethod
    def intel(cls) -> "TrustAnchor":
        """Return Intel's SGX root, pinned by key and by the bytes of the two certificates that Intel has issued for it."""
        from glasscase.core.dcap import certificate_der
        from glasscase.verify.roots import INTEL_ROOT_KEY, INTEL_ROOTS

        return cls._make("intel", tuple(certificate_der(pem) for pem in INTEL_ROOTS), INTEL_ROOT_KEY, simulated=False)

    @classmethod
    def insecure_root(cls, pem: bytes) -> "TrustAnchor":
        """Return an anchor on the caller's own root: for the simulator and tests. Every verdict says SIMULATED.

        pem: exactly one certificate; the caller's own file, so line ends and blank space around it do not matter.
        Raises FormatError("anchor.root.malformed").
        """
        import hashlib

        from glasscase.core.dcap import certificate_der, certificate_key
        from glasscase.verify.roots import INTEL_ROOTS

        if not isinstance(pem, bytes) or not 0 < len(pem) <= ROOT_MAX:
            raise FormatError(
                "anchor.root.malformed", "the anchor is not the bytes of one certificate in PEM", what="anchor"
            )
        try:
            der = certificate_der(pem.replace(b"\r\n", b"\n").strip() + b"\n")
            key = certificate_key(der)
        except FormatError as error:
            raise FormatError(
                "anchor.root.malformed",
                f"the anchor is not one root certificate in PEM: {error.message}",
                what="anchor",
            ) from None
        name = f"insecure-root:{hashlib.sha256(der).hexdigest()}"
        known = tuple(certificate_der(root) for root in INTEL_ROOTS)
        return cls._make(name, known if der in known else (der,), key, simulated=True)

    @classmethod
    def _make(cls, name: str, certificates: tuple[bytes, ...], key: bytes, *, simulated: bool) -> "TrustAnchor":
        anchor = object.__new__(cls)
        object.__setattr__(anchor, "name", name)
        object.__setattr__(anchor, "simulated", simulated)
        object.__setattr__(anchor, "_certificates", certificates)
        object.__setattr__(anchor, "_key", key)
        return anchor

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a trust anchor cannot be changed")

    def __repr__(self) -> str:
        return f"<TrustAnchor {self.name}>"

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """Return the DER of every certificate that is accepted as the root."""
        return self._certificates

    @property
    def key(self) -> bytes:
        """Return the 65 bytes of the root's key."""
        return self._key

    @property
    def core(self) -> "Anchor":
        """Return the core's handle of this anchor: one, whichever of several threads asks first."""
        found: Anchor | None = self.__dict__.get("_core")
        return found if found is not None else self.__dict__.setdefault("_core", self._handle())

    def _handle(self) -> "Anchor":
        from glasscase.core.dcap import Anchor, certificate_der
        from glasscase.verify.roots import INTEL_KNOWN

        known = () if self.simulated else tuple(certificate_der(pem) for pem in INTEL_KNOWN)
        return Anchor(self.certificates, key=self.key, insecure=self.simulated, known=known)
