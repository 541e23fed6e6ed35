"""Differentiable Dictionary Search: the small library behind the book's chapters.

Read the modules in the order in which they use each other: `config`, `artefacts`, `processes`, `maps`, `corpus`,
`spectrogram`, `frames`, `fused`, `flows`, `training`, `dictionaries`, `decomposition`, `metrics`, `experiment`,
`sweeps`, `machine`, `counts`, `complexity`, `plots`, `cli`.
"""

from importlib.metadata import version

__version__ = version("ddslib")
