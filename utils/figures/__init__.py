"""Pictures of findings, drawn from records alone and never from live training objects.

It may import `findings` and what lies behind, not `report`, and never loads torch. Start with `task`, which lists every
picture of a task. `panels`, `classes` and `gradients` draw on Axes that they are given; `canvas` is what all share.
"""
