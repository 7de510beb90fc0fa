"""What a command means and does, from its options to the last line that it prints.

It may import every package; only `cli` imports it. Start with `plan`, which turns options into a plan, and `steps`,
which carries the plan out. `arguments` are the options, `added` and `libraries` the models that they name. `schedule`
lists the cells and `processes` runs them, `looks` decides whether to go on after a look, `preflight` checks everything
before anything is trained, `outputs` and `progress` are what a person sees, `locks` keeps two commands out of one
folder. `use` and `trained` find weights, which `predict` and `export` use.
"""
