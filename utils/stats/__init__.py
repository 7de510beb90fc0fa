"""Statistics of plain arrays: no records, no words, no torch.

It imports no other room. `intervals` is for repeated measurements, `curves` for values over epochs, `paired` for two
models with the same seeds or the same images. Each function names the source of its formula, and what is undefined
comes back as NaN or None.
"""
