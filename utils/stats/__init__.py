"""Statistics of plain arrays. This package knows nothing of records or torch and writes no text.

It imports no other package. `intervals` is for repeated measurements, `curves` for values over epochs, `overfitting`
for the curves of several seeds, `paired` for two models with the same seeds or the same images, `looks` for judging
them more than once, and `power` for what more seeds would bring. Each function names the source of its formula. A
result that is undefined is returned as NaN or None.
"""
