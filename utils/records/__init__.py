"""What a cell leaves on disk, and reading it again; no code that is read is run.

It may import `stats`, and never loads torch. Start with `record`, the outcome of one cell, and `folder`, which of the
records in a folder count. `flow` thins gradient flow for a record, `timing` is the record of a timing pass.
"""
