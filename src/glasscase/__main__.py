"""`python -m glasscase` is the command line."""

from glasscase.cli.main import main

main()
