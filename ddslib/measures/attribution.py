"""How much activity lies on the right notes and how much on few, and how well the sum fits."""

import numpy as np
from numpy.typing import ArrayLike

from .checks import INACTIVE, Numbers, as_array, as_weights, defined, plain, validated


def precision_of_source_attribution(A: ArrayLike, Y: ArrayLike, weights: ArrayLike | None = None) -> Numbers:
    """PSA: the share of all activity that lies on notes that sound (paper Eq. 1).

    In [0, 1].  Raises ValueError where A is zero everywhere, since a share of nothing is undefined.
    """
    A, Y, weights = validated(A, Y, weights)
    total = defined(weights @ A.sum(axis=0), INACTIVE)
    return plain(weights @ (A * Y).sum(axis=0) / total)


def frame_precision_of_source_attribution(A: ArrayLike, Y: ArrayLike) -> float:
    """The mean of every frame's own PSA; frames without activity are left out."""
    A, Y, _ = validated(A, Y)
    total = A.sum(axis=0)
    active = total > 0
    defined(active.any(), INACTIVE)
    return float(((A * Y).sum(axis=0)[active] / total[active]).mean())


def sparsity(A: ArrayLike, epsilon: float, weights: ArrayLike | None = None) -> Numbers:
    """ℓ0^ε: the share of A's cells that are at most `epsilon` (paper §IV-E2)."""
    A, _, weights = validated(A, weights=weights)
    return plain(weights @ (A <= epsilon).mean(axis=0) / weights.sum(axis=-1))


def relative_error(X: ArrayLike, X_hat: ArrayLike, weights: ArrayLike | None = None) -> Numbers:
    """‖X − X̂‖ / ‖X‖ in the Frobenius norm.  Raises ValueError where X is zero or the shapes differ."""
    X, X_hat = as_array(X).astype(np.float64), as_array(X_hat).astype(np.float64)
    if X.shape != X_hat.shape:
        raise ValueError(f"the reconstruction has shape {X_hat.shape}, expected {X.shape}")
    weights = as_weights(weights, X.shape[1])
    total = defined(weights @ (X**2).sum(axis=0), "X is zero everywhere, so its relative error is undefined")
    return plain(np.sqrt(weights @ ((X - X_hat) ** 2).sum(axis=0) / total))
