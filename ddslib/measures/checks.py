"""What every measure checks of its input."""

import numpy as np

INACTIVE = "A is zero everywhere, so its precision is undefined; expected some activity"
SILENT = "Y is zero everywhere, so {} is undefined; expected some active note"
Numbers = float | np.ndarray  # a result, or one for each set of weights


def as_array(values):
    """Values as a numpy array; a tensor is fetched from whatever device it is on."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def validated(A, Y=None, weights=None):
    """A (N, T) as float64, Y (N, T) as boolean and the weights (..., T).

    Raises ValueError where they are not what measures take.
    """
    A = as_array(A).astype(np.float64)
    if A.ndim != 2 or A.size == 0:
        raise ValueError(f"A has shape {A.shape}, expected (sources, frames), not empty")
    if not np.isfinite(A).all() or (A < 0).any():
        raise ValueError("A holds values that are negative or not finite; expected activations >= 0")
    weights = as_weights(weights, A.shape[1])
    if Y is None:
        return A, None, weights
    Y = as_array(Y)
    if Y.shape != A.shape:
        raise ValueError(f"Y has shape {Y.shape}, expected that of A, {A.shape}")
    if not np.isin(Y, (0, 1)).all():
        raise ValueError("Y holds values other than 0 and 1; expected a binary piano roll")
    return A, Y.astype(bool), weights


def as_weights(weights, frames):
    """The weights, or where there are none a weight of 1 for every frame."""
    weights = np.ones(frames) if weights is None else as_array(weights)
    if weights.shape[-1:] != (frames,):
        raise ValueError(f"weights have shape {weights.shape}, expected one for each of {frames} frames")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=-1).all()):
        raise ValueError("weights are negative, not finite or all zero; expected weights >= 0, and some above")
    return weights


def defined(total, message):
    """What is to be divided by.  Raises ValueError with `message` where it is zero somewhere."""
    if not np.all(total):
        raise ValueError(message)
    return total


def plain(result):
    """A float where there is one result, and all of them where there are many."""
    return result if np.ndim(result) else float(result)
