"""One task of a list that stands for many: what it is made for, what the many are called, and filling in.

    labels      from a value to its part of an id: pure, the same on every platform
    matrix      every combination of values, with what is excluded and included
    globs       which of many paths a pattern means
    items       what `foreach` names: a list, lines of a file, files, what a command prints
    filling     values in commands and texts, quoted where a shell reads them
    copies      a task and its combinations -> the tasks that it stands for

Must not know a repository, nor how a command is run: `items` is handed what can tell.
"""
