"""Pages: text and tables in Markdown and HTML.

It may import `findings` and what that imports, but not `figures`, and never loads torch. Start with `page`, which
writes the results of a task as one text. `conclusions` are the verdicts under their titles, `short` says them in a few
plain sentences, `tables` makes the tables, `contents` tells what a folder of images holds, `made` says how the results
were made, `csv_tables` writes the same as CSV. `blocks` holds what the README shows of it, and `readme` puts that
between its markers.
"""
