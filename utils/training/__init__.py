"""One cell of a comparison: a model trained with one seed, tested, and saved.

It may import `data` and `records`. Start with `fit`, the training loop, and `cell`, which runs it and keeps what it
leaves. A change in this room makes finished cells in the runs folder train again: what only words or draws results
belongs elsewhere.
"""
