"""Evidence: not how active a source is, but what would be missing without it."""

import torch
from torch import Tensor

from .dictionary import Dictionary
from .objective import Objective


def evidence(objective: Objective, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Tensor:
    """E (N, T): by what the distance of each frame would grow if a source were taken away, all else as it is.

    With X̂_n the part of X̂ (K, T) that source n explains::

        E_nt = max(0, d(X_t, X̂_t − X̂_nt) − d(X_t, X̂_t))

    where d is the objective's distance, squared where that is a norm.  It is near zero for an octave that only shares
    partials, and large for a note that is needed.  It is summed in double precision.
    """
    sources = range(len(dictionary.attribute(H)))
    growth = [objective.growth(X_hat, dictionary.part(H, source)) for source in sources]
    return torch.stack(growth).clamp(min=0).to(X_hat.dtype)
