"""The options that say the same in every verb that judges evidence."""

import click

AT = click.option("--at", metavar="TIME", help="Judge as of this time: RFC 3339 or unix seconds [default: now].")
COLLATERAL = click.option(
    "--collateral", metavar="FILE", help="Intel's collateral; a raw quote needs it [default: the evidence's own]."
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(["native", "intel", "both"]),
    default="native",
    show_default=True,
    help="Who judges the quote: glasscase, Intel's library, or both, which must agree.",
)
NONCE = click.option("--nonce", metavar="HEX", help="The 32 bytes, as 64 hex digits, that the evidence must answer.")
STATEMENT = click.option(
    "--statement",
    "statements",
    multiple=True,
    metavar="FILE",
    help="An auditor's statement, for a policy that requires some; repeatable.",
)
