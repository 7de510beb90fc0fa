"""Pages: text, tables and claims in Markdown.

It may import `findings` and what lies behind, not `figures`, and never loads torch. Start with `page`, the results of a
task as one text. `tables` are its tables, `claims` judge what the `original` report said, `readme` puts a page between
the markers of a README.
"""
