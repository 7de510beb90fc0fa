"""Findings: verdicts from a fixed list of words, and the sentences that report them.

It may import `records` and `stats`, and never loads torch. Start with `results`, which holds everything known of a
task, and `verdicts`, which decides; `sentences` puts decisions into words. `depth` is about gradients, `confusion`
about classes, `overfitting` and `runs` about the runs of a single model.
"""
