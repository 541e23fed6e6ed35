"""What the book shows: figures, audio players, lines and tables, and the set-up that its chapters share.

In: workspaces, decompositions and arrays.
Out: figures on the page, HTML, data frames and strings; what `reports` says is printed.
"""
