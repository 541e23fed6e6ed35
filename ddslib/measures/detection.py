"""Notes that are detected where activity is high: average precision, and precision, recall and F at a threshold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .checks import INACTIVE, SILENT, Numbers, defined, plain, validated

TINY = np.finfo(float).tiny  # in the place of zero where something is divided


def average_precision(A: ArrayLike, Y: ArrayLike, per_frame: bool = False, weights: ArrayLike | None = None) -> Numbers:
    """Area under the precision-recall curve over all cells of A, ranked by activity.

    With ``per_frame=True`` each frame is first divided by its sum, so that loudness does not rank the
    frames.  Raises ValueError where no note sounds.
    """
    A, Y, weights = validated(A, Y, weights)
    if per_frame:
        A = A / np.maximum(A.sum(axis=0), TINY)
    _, detect = _ranking(A, Y)

    def area(weights):
        detected, hits = detect(weights)
        defined(hits[-1], SILENT.format("average precision"))
        return np.diff(hits, prepend=0) @ (hits / np.maximum(detected, TINY)) / hits[-1]

    return plain(np.apply_along_axis(area, -1, weights))


def _ranking(A, Y):
    """All thresholds, the highest first, and how to count what each of them detects of the weighted cells."""
    order = np.argsort(-A, axis=None)
    activity, right = A.ravel()[order], Y.ravel()[order]
    last = np.append(activity[1:] != activity[:-1], True)  # equal cells are detected together

    def detect(weights):
        """How many cells are detected, and how many of them sound, at each threshold."""
        cells = weights[order % A.shape[1]]
        return np.cumsum(cells)[last], np.cumsum(cells * right)[last]

    return activity[last], detect


def relative(A: ArrayLike) -> np.ndarray:
    """A (N, T) over the mean activity of a frame, so that a threshold means the same for soft and loud recordings.

    Raises ValueError where A is zero everywhere.
    """
    A, _, _ = validated(A)
    return A / defined(A.sum() / A.shape[1], INACTIVE)


class Detection(NamedTuple):
    """Frame-level detection of notes."""

    precision: Numbers
    recall: Numbers
    f_measure: Numbers


def precision_recall_f(A: ArrayLike, Y: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> Detection:
    """Precision, recall and their harmonic mean where a cell of A at or above `threshold` is a note.

    The precision of no detection at all is 0.  Raises ValueError where no note sounds.
    """
    A, Y, weights = validated(A, Y, weights)
    sounding = defined(weights @ Y.sum(axis=0), SILENT.format("recall"))
    above = A >= threshold
    detected, hits = weights @ above.sum(axis=0), weights @ (above & Y).sum(axis=0)
    return Detection(
        plain(hits / np.maximum(detected, TINY)), plain(hits / sounding), plain(2 * hits / (detected + sounding))
    )


def best_threshold(A: ArrayLike, Y: ArrayLike) -> float:
    """The threshold on A of the highest F-measure.  Choose it on other mixtures than you report."""
    A, Y, weights = validated(A, Y)
    defined(Y.any(), "Y is zero everywhere, so no threshold is best; expected some active note")
    thresholds, detect = _ranking(A, Y)
    detected, hits = detect(weights)
    f = 2 * hits / (detected + hits[-1])
    return float(thresholds[f == f.max()][-1])  # of equally good ones the lowest
