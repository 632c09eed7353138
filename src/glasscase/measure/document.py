"""A measurement as the JSON object that `measure --json` prints.

Invariants: measure.claim reads what is written here and gives the measurement back.
Source: docs/bundle-format.md, "Measurement".
"""

from typing import Any

from glasscase.measure.mrenclave import Measurement


def measurement_document(measurement: Measurement) -> dict[str, Any]:
    """Return the JSON object of a measurement."""
    areas = [
        {"name": a.name, "start": a.start, "size": a.size, "measured": a.measured, "permissions": a.permissions}
        for a in measurement.areas
    ]
    return {
        "mrenclave": measurement.mrenclave.hex(),
        "enclave_size": measurement.enclave_size,
        "pages_measured": measurement.pages_measured,
        "pages_added": measurement.pages_added,
        "attributes": measurement.attributes_flags,
        "xfrm": measurement.xfrm,
        "xfrm_mask": f"{measurement.xfrm_mask:016x}",
        "misc_select": measurement.misc_select,
        "isv_prod_id": measurement.isv_prod_id,
        "isv_svn": measurement.isv_svn,
        "max_threads": measurement.max_threads,
        "edmm": measurement.edmm,
        "debug": bool(measurement.attributes_flags & 2),
        "areas": areas,
    }
