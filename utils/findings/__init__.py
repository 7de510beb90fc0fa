"""What the records say: verdicts in a closed vocabulary, and the sentences that tell them.

It may import `records` and `stats`, and never loads torch. Start with `results`, all that is known of a task, and
`verdicts`, which decides; `sentences` words what has been decided. `depth` is about gradients, `confusion` about
classes, `runs` about the runs of one model alone.
"""
