"""Training one cell of a comparison: one model with one seed is trained, tested and saved.

It may import `data` and `records`. Start with `fit`, the training loop, and `cell`, which runs it and saves the
results. Any change to the code of this package makes finished cells in the runs folder train again. So code that only
words or draws results belongs elsewhere.
"""
