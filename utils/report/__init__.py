"""Pages: text, tables and claims in Markdown.

It may import `findings` and what that imports, but not `figures`, and never loads torch. Start with `page`, which
writes the results of a task as one text. `tables` makes its tables, `made` says how the results were made, `claims`
judges what the `original` report said, `readme` puts a page between the markers of a README.
"""
