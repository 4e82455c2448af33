"""What does a task's work: asked for one command, and told from its output how that went.

    calls      Backend, the one question, and Call, the answer: everything about one execution, as plain data
    shell      the task's own command
    agents     a program from the configuration that takes a prompt
    prompts    what such a program is told
    parsers    from what it prints to what it says: one small class for each dialect
    judging    how it went: done, failed, or a trouble of the tool's own
    probing    whether a program is there, which version, and whether it is logged in

Must not know how commands are run for tasks, nor git; which backend does which task is the router's to say.
"""
