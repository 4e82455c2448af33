"""Making a workspace ready for work, and taking that back before it goes.

standing   what is known of a workspace's readiness, on disk, and the word for the stage that it is at
commands   a set-up and a teardown: commands one after the other, under one limit
"""
