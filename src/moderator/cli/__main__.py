"""`python -m moderator.cli`: the same as `moderator`."""

from moderator.cli import main

main()
