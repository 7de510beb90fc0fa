"""What the words of a verdict mean, as the README has it too."""

DEFINITIONS = {
    "Better": "if models were equal, luck would give this verdict anywhere among a task's comparisons in at most 1 of "
    "20 such experiments (Holm's correction sees to that: the more comparisons, the stricter each).",
    "Equivalent": "the difference is shown to be smaller than the margin that the task calls small.",
    "Not distinguished, not decided": "these seeds can't tell. It never means equal; the text says how many seeds "
    "might.",
    "Too few seeds": "a verdict takes three. Undefined: every seed gave the same difference.",
    "Overfits": "validation loss is shown to end higher than it was before, while the loss on training images still "
    "falls.",
}
MORE_DEFINITIONS = {
    "Seed": "the number that a training run draws its first weights and the order of images from. Another gives "
    "another result, so models are trained with several.",
    "Interval": "the range in which the mean over all possible seeds probably lies: a two-sided t-interval over seeds, "
    "from 3 seeds up.",
    "Epoch": "one pass over the training images.",
    "Validation loss": "the error on images held out from training; the curves show it after each epoch.",
    "Fit loss": "the error on some of the training images, measured as validation loss is.",
    "Point": "a percentage point: 98.5% is 0.5 points more than 98.0%.",
    "FLOPs": "floating-point operations for one image; multiplying and adding count as two.",
    "Precision, recall, F1": "of a class: the share of images taken for it that are of it; the share of its images "
    "that are found; their harmonic mean.",
}
