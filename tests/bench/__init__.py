"""`make bench`: the page's procedure done by hand against `consulfed run --apply`, and what the sandbox costs."""
