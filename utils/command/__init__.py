"""What a command means and does, from its options to its last line.

It may import every room but `cli`, which calls it. Start with `plan`, which says what a command means, and `steps`,
which does it. `schedule` and `processes` deal cells to processes, `preflight` looks at everything before anything is
trained, `outputs` and `progress` are what a person sees, `locks` keeps two runs out of one folder.
"""
