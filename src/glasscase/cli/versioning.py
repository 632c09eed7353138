"""The verb `version`."""

from glasscase import __version__
from glasscase.cli.output import Output, verb


@verb("version", help="Show the versions of glasscase and libcrypto, and which engines can judge a quote.")
def version(out: Output) -> int:
    """Print what is installed."""
    from glasscase.core import handles
    from glasscase.errors import CannotVerify
    from glasscase.verify import intel

    try:
        library = intel.found()
    except CannotVerify:
        library = None
    engines = ["native"] if library is None else ["native", "intel", "both"]
    value = {
        "version": __version__,
        "libcrypto": handles.libcrypto_version(),
        "vaes": handles.has_vaes(),
        "engines": engines,
        "intel_library": library,
    }
    lines = [
        f"glasscase  {__version__}",
        f"libcrypto  {value['libcrypto']} (VAES {'yes' if value['vaes'] else 'no'})",
        f"engines    {', '.join(engines)}",
        f"intel      {library or 'not found'}",
    ]
    out.result(value, "\n".join(lines))
    return 0
