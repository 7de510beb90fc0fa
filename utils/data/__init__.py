"""Images and labels: what each data set must be, where its bytes come from, and how they lie on the device.

It imports no other package. Start with `specs`, which defines each data set, and `images`, the only module here that
loads torch. `sources` tries one source of the bytes after the other, with the help of `fetch` and `formats`. `embedded`
makes two small data sets that need no download. `folder` makes one of a folder of images: `layout` lists its files,
`decode` reads one, `split` says which train and which test, and `store` keeps the pixels.
"""
