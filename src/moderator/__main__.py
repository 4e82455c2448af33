"""`python -m moderator`: the same as `moderator`."""

from moderator.cli import main

main()
