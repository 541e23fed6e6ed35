"""Many experiments, each made once: data, flows, searches and rows of a workspace; sweeps.

In: a profile, a folder, and real recordings or none.
Out: frames, flows, decompositions and rows, each under the digest of all that it depends on.
"""
