"""Drills: each fault that the sandbox can have is in force for a while, and the right check has to name it.

A check that never fired proves nothing. A drill puts a real fault into a healthy federation (`sandbox.faults`), looks
as people look, by a verification or by the preflight of a notebook, and holds that what is named is the cause and that
nothing else is; then it takes the fault away and waits until all is well again. Only the command and tests import this.
"""
