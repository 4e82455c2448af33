"""The only package that talks to git.  Everyone else asks `GitManager`, in the user's words."""
