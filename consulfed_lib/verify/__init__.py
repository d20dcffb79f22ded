"""`consulfed verify`: the checks of notebook 04 without a notebook, for pipelines, monitors and a terminal.

`command` does the work; `reports` says what was found, for a person, a program, a test report, or Prometheus.
"""
