"""Measures of a decomposition: pure functions of arrays.

A (N, T) holds source activations, finite and not negative; Y (N, T) is the binary piano roll.  Arrays
or tensors of any device are accepted, and results are plain floats.  Every measure checks its input and
raises ValueError, saying what was expected, rather than return a NaN.

Most take `weights` (T,) as well: a frame of weight 2 counts as if it were there twice.  With many sets of them,
weights (..., T), there is a result (...) for each, in one go: that is what makes `bootstrap` fast.

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


def _as_weights(weights: ArrayLike | None, frames: int) -> np.ndarray:
    """The weights, or where there are none a weight of 1 for every frame."""
    weights = np.ones(frames) if weights is None else as_array(weights)
    if weights.shape[-1:] != (frames,):
        raise ValueError(f"weights have shape {weights.shape}, expected one for each of {frames} frames")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any(axis=-1).all()):
        raise ValueError("weights are negative, not finite or all zero; expected weights >= 0, and some above")
    return weights


def _defined(total: np.ndarray | float, trouble: str) -> np.ndarray | float:
    """What is to be divided by, if it is nowhere zero."""
    if not np.all(total):
        raise ValueError(trouble)
    return total


def _plain(result: np.ndarray | float) -> np.ndarray | float:
    """A float where there is one result, and all of them where there are many."""
    return result if np.ndim(result) else float(result)


INACTIVE = "A is zero everywhere, so its precision is undefined; expected some activity"
SILENT = "Y is zero everywhere, so {} is undefined; expected some active note"


def precision_of_source_attribution(A: ArrayLike, Y: ArrayLike, weights: ArrayLike | None = None) -> float | np.ndarray:
    """PSA: the share of all activity that lies on notes that sound (paper Eq. 1).

    In [0, 1].  Raises ValueError where A is zero everywhere, since a share of nothing is undefined.
    """
    A, Y = _validated(A, Y)
    weights = _as_weights(weights, A.shape[1])
    total = _defined(weights @ A.sum(axis=0), INACTIVE)
    return _plain(weights @ (A * Y).sum(axis=0) / total)


class FrameMean(NamedTuple):
    """A mean over frames, and how many frames were left out of it."""

    value: float
    left_out: int


def frame_precision_of_source_attribution(A: ArrayLike, Y: ArrayLike) -> FrameMean:
    """The mean of every frame's own PSA; frames without activity are left out, and counted."""
    A, Y = _validated(A, Y)
    total = A.sum(axis=0)
    heard = total > 0
    _defined(heard.any(), INACTIVE)
    shares = (A * Y).sum(axis=0)[heard] / total[heard]
    return FrameMean(float(shares.mean()), int((~heard).sum()))


def sparsity(A: ArrayLike, epsilon: float, weights: ArrayLike | None = None) -> float | np.ndarray:
    """ℓ0^ε: the share of A's cells that are at most `epsilon` (paper §IV-E2)."""
    A, _ = _validated(A)
    weights = _as_weights(weights, A.shape[1])
    return _plain(weights @ (A <= epsilon).mean(axis=0) / weights.sum(axis=-1))


def relative_error(X: ArrayLike, X_hat: ArrayLike, weights: ArrayLike | None = None) -> float | np.ndarray:
    """‖X − X̂‖ / ‖X‖ in the Frobenius norm.  Raises ValueError where X is zero or the shapes differ."""
    X, X_hat = as_array(X).astype(np.float64), as_array(X_hat).astype(np.float64)
    if X.shape != X_hat.shape:
        raise ValueError(f"the reconstruction has shape {X_hat.shape}, expected {X.shape}")
    weights = _as_weights(weights, X.shape[1])
    energy = _defined(weights @ (X**2).sum(axis=0), "X is zero everywhere, so its relative error is undefined")
    return _plain(np.sqrt(weights @ ((X - X_hat) ** 2).sum(axis=0) / energy))


def average_precision(
    A: ArrayLike, Y: ArrayLike, per_frame: bool = False, weights: ArrayLike | None = None
) -> float | np.ndarray:
    """Area under the precision-recall curve over all cells of A, ranked by activity.

    With ``per_frame=True`` each frame is first divided by its sum, so that loudness does not rank the
    frames.  Raises ValueError where no note sounds.
    """
    A, Y = _validated(A, Y)
    weights = _as_weights(weights, A.shape[1])
    if per_frame:
        A = A / np.maximum(A.sum(axis=0), np.finfo(float).tiny)
    ranking = _Ranking(A, Y)

    def area(weights: np.ndarray) -> float:
        detected, hits = ranking.detect(weights)
        _defined(hits[-1], SILENT.format("average precision"))
        precision = hits / np.maximum(detected, np.finfo(float).tiny)
        return np.diff(hits, prepend=0) @ precision / hits[-1]

    return _plain(np.apply_along_axis(area, -1, weights))


class _Ranking:
    """The cells of A, the most active first: a threshold that falls detects one after the other."""

    def __init__(self, A: np.ndarray, Y: np.ndarray):
        order = np.argsort(-A, axis=None)
        self._right, self._frame = Y.ravel()[order], order % A.shape[1]
        activity = A.ravel()[order]
        self._last = np.append(activity[1:] != activity[:-1], True)  # equal cells are detected together
        self.thresholds = activity[self._last]

    def detect(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many cells are detected, and how many of them sound, at each threshold."""
        cells = weights[self._frame]
        return np.cumsum(cells)[self._last], np.cumsum(cells * self._right)[self._last]


class Detection(NamedTuple):
    """Frame-level detection of notes."""

    precision: float | np.ndarray
    recall: float | np.ndarray
    f_measure: float | np.ndarray


def precision_recall_f(A: ArrayLike, Y: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> Detection:
    """Precision, recall and their harmonic mean where a cell of A at or above `threshold` is a note.

    The precision of no detection at all is 0.  Raises ValueError where no note sounds.
    """
    A, Y = _validated(A, Y)
    weights = _as_weights(weights, A.shape[1])
    sounding = _defined(weights @ Y.sum(axis=0), SILENT.format("recall"))
    above = A >= threshold
    detected, hits = weights @ above.sum(axis=0), weights @ (above & Y).sum(axis=0)
    precision = hits / np.maximum(detected, np.finfo(float).tiny)
    return Detection(_plain(precision), _plain(hits / sounding), _plain(2 * hits / (detected + sounding)))


def best_threshold(A: ArrayLike, Y: ArrayLike) -> float:
    """The threshold on A of the highest F-measure.  Choose it on other mixtures than you report."""
    A, Y = _validated(A, Y)
    _defined(Y.any(), "Y is zero everywhere, so no threshold is best; expected some active note")
    ranking = _Ranking(A, Y)
    detected, hits = ranking.detect(np.ones(A.shape[1]))
    f = 2 * hits / (detected + hits[-1])
    return float(ranking.thresholds[f == f.max()][-1])  # of equally good ones the lowest


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
    measure: Callable[..., np.ndarray],
    runs: Sequence[tuple[ArrayLike, ...]],
    chord: ArrayLike,
    generator: np.random.Generator,
    draws: int,
) -> np.ndarray:
    """Results (draws,) of `measure`, as they would be with other runs and other chords.

    `runs` holds the measure's arguments once for every seed, and `chord` (T,) says which chord a frame is from.
    Every draw takes one run, and as many chords as there are, with replacement: a frame's weight is how often its
    chord was drawn.
    """
    names, index = np.unique(as_array(chord), return_inverse=True)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    run = generator.integers(len(runs), size=draws)  # after the chords, which do not depend on how many runs there are
    found = np.empty(draws)
    for number in np.unique(run):
        chosen = run == number
        found[chosen] = measure(*runs[number], weights=times[chosen][:, index])
    return found
