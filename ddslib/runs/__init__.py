"""Many experiments, each made once: artefacts, the workspace, sweeps.

In: a profile, a folder, and real recordings or none.
Out: frames, flows, decompositions and rows, each under the digest of all that it depends on.
"""
