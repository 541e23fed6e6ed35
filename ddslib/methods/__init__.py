"""One file a method: its dictionary, and all else that is known of it.

In: what a dictionary may be made from (stored frames, a trained flow), and the method's settings.
Out: dictionaries for `ddslib.search`, and facts for tables, figures, sweeps and costs.
"""
