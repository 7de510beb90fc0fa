"""Pictures of findings. They are drawn from records on disk, never from objects of a running training.

It may import `findings` and what that imports, but not `report`, and never loads torch. Start with `task`, which lists
every picture of a task. `panels`, `classes` and `gradients` draw on Axes that they are given; `canvas` has what all
figures share, `lettering` fits names of any length and script.
"""
