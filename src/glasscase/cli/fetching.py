"""Where the operator's and the data user's commands get collateral from: a file, the cache, the network, the simulator."""

import os
from typing import TYPE_CHECKING

from glasscase.errors import CannotVerify

if TYPE_CHECKING:
    from glasscase.collateral.model import Collateral
    from glasscase.verify.anchor import TrustAnchor

INTEL = "intel"
FRESH_S = 12 * 3600  # seconds for which fetched collateral is used again


def is_service(source: str) -> bool:
    """Return whether a source is fetched over the network, not a file."""
    return source == INTEL or source.startswith(("https://", "http://"))


def fetched_collateral(quote: bytes, *, anchor: "TrustAnchor", source: str, now: int) -> "Collateral":
    """Return collateral from Intel's service or a PCCS; what was fetched within 12 hours comes from the cache.

    now: unix seconds. Raises CannotVerify if there is none.
    """
    from glasscase.cli.places import cache_dir
    from glasscase.collateral.fetch import fetch_collateral
    from glasscase.collateral.store import Store
    from glasscase.core import dcap

    store = Store(cache_dir() / "collateral" / anchor.name.rpartition(":")[2][:16])
    pck = dcap.parse_quote(quote).pck
    kept = None if pck is None else store.get(fmspc=pck.fmspc, ca=pck.ca)
    if kept is not None and 0 <= now - kept.fetched_at < FRESH_S:
        return kept
    return fetch_collateral(quote, anchor=anchor.core, at=now, source=source, store=store)


def client_collateral(quote: bytes, *, anchor: "TrustAnchor", source: str | None, now: int) -> "Collateral":
    """Return collateral for a data user: from what was named, else Intel, or this account's simulator for its own root.

    Raises CannotVerify("client.collateral.missing") for another root without a source.
    """
    from glasscase.cli.places import data_dir
    from glasscase.cli.verifying import collateral_argument
    from glasscase.hosting.collect import simulated_collateral

    if source is not None and not is_service(source):
        found: Collateral = collateral_argument(source, quote)
        return found
    if source is not None or not anchor.simulated:
        return fetched_collateral(quote, anchor=anchor, source=source or INTEL, now=now)
    directory = data_dir()
    if os.path.isfile(directory / "simulator" / "root.pem"):
        from glasscase.sim.platform import SimPlatform
        from glasscase.verify.anchor import TrustAnchor

        own = SimPlatform.open(directory / "simulator").root_pem.encode("ascii")
        if TrustAnchor.insecure_root(own).key == anchor.key:
            return simulated_collateral(directory, now=now)
    raise CannotVerify(
        "client.collateral.missing",
        "the root is neither Intel's nor this account's simulator's, so its collateral must be named",
        hint="--collateral-source FILE",
    )
