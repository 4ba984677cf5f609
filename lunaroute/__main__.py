"""`python -m lunaroute`."""

from lunaroute.cli import main

main()
