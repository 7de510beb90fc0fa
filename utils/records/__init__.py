"""The files with the results of cells: writing them and reading them again. Reading one never runs code from it.

It may import `stats`, and never loads torch. Start with `record`, the outcome of one cell, and `folder`, which decides
which records in a folder count. `arrays` leaves arrays on the disk until they are needed, `flow` thins gradient flow
for a record, `timing` is the record of a timing pass.
"""
