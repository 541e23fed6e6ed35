"""Measures of a decomposition: pure functions of arrays.

A (N, T) holds source activations, finite and not negative; Y (N, T) is the binary piano roll.  Arrays
or tensors of any device are accepted; results are plain floats.  Every measure checks its input and
raises ValueError, saying what was expected, rather than return a NaN.

Measures:
    * `precision_of_source_attribution`, over all frames or averaged by frame
    * `sparsity`, the share of cells that are nearly zero
    * `relative_error` of the reconstruction
    * `average_precision`, over all cells, or with every frame scaled alike
    * `precision_recall_f` at a threshold, and `best_threshold`
    * `bootstrap`, how far any of them would move with other chords and other seeds

References:
    * Marták, Kelz and Widmer 2022, §IV-E (Eq. 1)
    * Hurley and Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55(10), 2009
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, precision_recall_curve


def as_array(values: ArrayLike) -> np.ndarray:
    """Values as a numpy array, fetched from whatever device they are on."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def _validated(A: ArrayLike, Y: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    A = as_array(A).astype(np.float64)
    if A.ndim != 2 or A.size == 0:
        raise ValueError(f"A has shape {A.shape}, expected (sources, frames), not empty")
    if not np.isfinite(A).all() or (A < 0).any():
        raise ValueError("A holds values that are negative or not finite; expected activations >= 0")
    if Y is None:
        return A, None
    Y = as_array(Y)
    if Y.shape != A.shape:
        raise ValueError(f"Y has shape {Y.shape}, expected that of A, {A.shape}")
    if not np.isin(Y, (0, 1)).all():
        raise ValueError("Y holds values other than 0 and 1; expected a binary piano roll")
    return A, Y.astype(bool)


def precision_of_source_attribution(A: ArrayLike, Y: ArrayLike) -> float:
    """PSA: the share of all activity that lies on notes that sound (paper Eq. 1).

    In [0, 1].  Raises ValueError where A is zero everywhere, since a share of nothing is undefined.
    """
    A, Y = _validated(A, Y)
    if not A.any():
        raise ValueError("A is zero everywhere, so its precision is undefined; expected some activity")
    return float(A[Y].sum() / A.sum())


class FrameMean(NamedTuple):
    """A mean over frames, and how many frames were left out of it."""

    value: float
    left_out: int


def frame_precision_of_source_attribution(A: ArrayLike, Y: ArrayLike) -> FrameMean:
    """The mean of every frame's own PSA; frames without activity are left out, and counted."""
    A, Y = _validated(A, Y)
    total = A.sum(axis=0)
    heard = total > 0
    if not heard.any():
        raise ValueError("A is zero everywhere, so its precision is undefined; expected some activity")
    shares = (A * Y).sum(axis=0)[heard] / total[heard]
    return FrameMean(float(shares.mean()), int((~heard).sum()))


def sparsity(A: ArrayLike, epsilon: float) -> float:
    """ℓ0^ε: the share of A's cells that are at most `epsilon` (paper §IV-E2)."""
    A, _ = _validated(A)
    return float((A <= epsilon).mean())


def relative_error(X: ArrayLike, X_hat: ArrayLike) -> float:
    """‖X − X̂‖ / ‖X‖ in the Frobenius norm.  Raises ValueError where X is zero or the shapes differ."""
    X, X_hat = as_array(X).astype(np.float64), as_array(X_hat).astype(np.float64)
    if X.shape != X_hat.shape:
        raise ValueError(f"the reconstruction has shape {X_hat.shape}, expected {X.shape}")
    if not X.any():
        raise ValueError("X is zero everywhere, so its relative error is undefined")
    return float(np.linalg.norm(X - X_hat) / np.linalg.norm(X))


def average_precision(A: ArrayLike, Y: ArrayLike, per_frame: bool = False) -> float:
    """Area under the precision-recall curve over all cells of A, ranked by activity.

    With ``per_frame=True`` each frame is first divided by its sum, so that loudness does not rank the
    frames.  Raises ValueError where no note sounds.
    """
    A, Y = _validated(A, Y)
    if not Y.any():
        raise ValueError("Y is zero everywhere, so average precision is undefined; expected some active note")
    if per_frame:
        A = A / np.maximum(A.sum(axis=0), np.finfo(float).tiny)
    return float(average_precision_score(Y.ravel(), A.ravel()))


class Detection(NamedTuple):
    """Frame-level detection of notes."""

    precision: float
    recall: float
    f_measure: float


def precision_recall_f(A: ArrayLike, Y: ArrayLike, threshold: float) -> Detection:
    """Precision, recall and their harmonic mean where a cell of A at or above `threshold` is a note.

    The precision of no detection at all is 0.  Raises ValueError where no note sounds.
    """
    A, Y = _validated(A, Y)
    if not Y.any():
        raise ValueError("Y is zero everywhere, so recall is undefined; expected some active note")
    detected = A >= threshold
    hits = (detected & Y).sum()
    precision, recall = hits / max(detected.sum(), 1), hits / Y.sum()
    return Detection(float(precision), float(recall), float(2 * hits / (detected.sum() + Y.sum())))


def best_threshold(A: ArrayLike, Y: ArrayLike) -> float:
    """The threshold on A of the highest F-measure.  Choose it on other mixtures than you report."""
    A, Y = _validated(A, Y)
    if not Y.any():
        raise ValueError("Y is zero everywhere, so no threshold is best; expected some active note")
    precision, recall, thresholds = precision_recall_curve(Y.ravel(), A.ravel())
    f = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[f[:-1].argmax()])


class Interval(NamedTuple):
    """Where a share of all draws of a bootstrap lies."""

    low: float
    high: float


def interval(found: ArrayLike, level: float = 0.95) -> Interval:
    """Where the middle share `level` of the results (draws,) lies."""
    tail = (1 - level) / 2
    return Interval(*map(float, np.quantile(as_array(found), [tail, 1 - tail])))


def verdict(found: ArrayLike) -> str:
    """Whether a claim that results (draws,) are positive is ``"confirmed"``, ``"contradicted"`` or ``"undecided"``.

    It is decided where the whole interval has one sign.
    """
    low, high = interval(found)
    if low > 0:
        return "confirmed"
    return "contradicted" if high < 0 else "undecided"


def bootstrap(
    measure: Callable[..., float],
    runs: Sequence[tuple[ArrayLike, ...]],
    chord: ArrayLike,
    generator: np.random.Generator,
    draws: int,
) -> np.ndarray:
    """Results (draws,) of `measure`, whose arguments are arrays with T frames as their last axis.

    `runs` holds those arguments once for every seed, and `chord` (T,) says which chord a frame is from.
    Every draw takes one run, and as many chords as there are, with replacement.
    """
    chord = as_array(chord)
    runs = [[as_array(values) for values in arrays] for arrays in runs]
    frames = [np.flatnonzero(chord == name) for name in np.unique(chord)]
    found = []
    for _ in range(draws):
        arrays = runs[generator.integers(len(runs))]
        drawn = np.concatenate([frames[index] for index in generator.integers(len(frames), size=len(frames))])
        found.append(measure(*(values[..., drawn] for values in arrays)))
    return np.array(found)
