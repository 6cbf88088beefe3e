"""`python -m attune` is the command line."""

from attune.cli.main import main

main()
