"""A run's record: what executed notebooks prove, how they get to their place, and how one edited byte is found.

A record is a folder `<records>/<federation>/<run>/`: the executed notebooks, a page of each that loads nothing from
outside, `plan.json` where something was planned, `run.json` (an in-toto statement in a DSSE envelope), `SHA256SUMS`.

    cells       what one executed notebook proves (executed: its cells)
    statement   run.json: statement, envelope, signatures (keys: who signs and checks)
    predicate   what the statement says of a run, read from its notebooks
    shape       what run.json says, field by field
    archive     from a private folder into place, at once (durable: how it is written)
    verify      everything that a record claims, recomputed (files: their digests)
    page        the page of a notebook
    find        records by name, newest first
    telling     a record, and the difference of two, for a person
    commands    `consulfed record`

Nothing here knows how a notebook is executed, and nothing imports the steps.
"""
