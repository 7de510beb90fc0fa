"""The packages of the suite. Each package's docstring says what is in it and where to start reading.

The entry point is `cli`: a task script calls its `main`. Imports go in one direction only: cli -> command -> {timing,
report, figures, training}; report and figures -> findings -> records -> stats; timing -> training -> data and records.
A package may also import what the packages it imports may import. The single files belong to no package: `streams`,
`files`, `checkout` and `experiment` stand below all of them, `contrasts` on `experiment`, and `words` on `stats`.
`tests/test_layering.py` checks these rules. Nothing here imports a model or a task.
"""
