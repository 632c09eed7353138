"""The verb `version`."""

from glasscase import __version__
from glasscase.cli.output import Output, verb


@verb("version", help="Show the versions of glasscase and libcrypto, and which engines can judge a quote.")
def version(out: Output) -> int:
    """Print what is installed."""
    from glasscase.core import handles

    engines = ["native"]
    value = {
        "version": __version__,
        "libcrypto": handles.libcrypto_version(),
        "vaes": handles.has_vaes(),
        "engines": engines,
    }
    lines = [
        f"glasscase  {__version__}",
        f"libcrypto  {value['libcrypto']} (VAES {'yes' if value['vaes'] else 'no'})",
        f"engines    {', '.join(engines)}",
    ]
    out.result(value, "\n".join(lines))
    return 0
