"""Images and labels: what each data set must be, where its bytes come from, and how a device holds them.

It imports no other room, only `files`. Start with `specs`, what each data set must be, and `images`, the only module
here that loads torch. `sources` looks for the bytes in one place after the other, through `fetch` and `formats`;
`embedded` makes two small data sets that need no source.
"""
