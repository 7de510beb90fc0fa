"""The suite's rooms; each package's docstring is its map.

`cli` is the door: a task script calls its `main`. Imports run one way: cli -> command -> {timing, report, figures,
training}; report and figures -> findings -> records -> stats; timing -> training -> data and records. Each room may
import what lies behind those that it may import; the single files here belong to no room and may be imported from
above. `tests/test_layering.py` holds all of it. Nothing here imports a model or a task.
"""
