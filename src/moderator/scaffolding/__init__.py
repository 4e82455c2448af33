"""What a project is made of, and the first configuration and list of tasks that fit it.

    survey      the files of a checkout -> a Project
    python      how a Python project is made ready for its tests
    programs    the package managers: how each makes a checkout ready, and runs its tests
    writing     a Project -> the text of `moderator.yaml` and `tasks.yaml`

Reads only; must not know git: which files there are is handed in.
"""
