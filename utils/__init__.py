"""The packages of the suite. Each package's docstring says what is in it and where to start reading.

The entry point is `cli`: a task script calls its `main`. Imports go in one direction only: cli -> command -> {timing,
report, figures, training}; report and figures -> findings -> records -> stats; timing -> training -> data and records.
A package may also import what the packages it imports may import. The single files in this folder belong to no package;
any package may import them. A test checks these rules. Nothing here imports a model or a task.
"""
