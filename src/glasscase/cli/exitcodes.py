"""Exit codes of every verb. An unknown code must be read as a failure. Source: README.md, "Exit codes"."""

OK = 0
USAGE = 1
FAILED = 2
UNDETERMINED = 3
IO = 4
INTERRUPTED = 5
DIFFERS = 6
