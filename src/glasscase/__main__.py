"""`python -m glasscase` is the command line."""

from glasscase.cli.start import main

main()
