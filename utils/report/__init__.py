"""Pages: text, tables and claims in Markdown.

It may import `findings` and what that imports, but not `figures`, and never loads torch. Start with `page`, which
writes the results of a task as one text. `conclusions` are the verdicts under their titles, `short` says them in a few
plain sentences, `tables` makes the tables, `contents` tells what a folder of images holds, `made` says how the results
were made, `claims` judges what the `original` report said. `csv_tables` writes the same as CSV. `blocks` holds what the
README and docs show of it, and `readme` puts that between their markers.
"""
