"""How many tasks run at once, and where; and the one way through the house that each of them takes."""
