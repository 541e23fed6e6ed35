"""How sure a measure is: the bootstrap over chords and seeds, its interval and what that decides."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .checks import as_array


def interval(results: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Where the middle share `level` of `results` (draws,) of a bootstrap lies: from, and to."""
    tail = (1 - level) / 2
    low, high = np.quantile(as_array(results), [tail, 1 - tail])
    return float(low), float(high)


def verdict(results: ArrayLike) -> str:
    """Whether a claim that `results` (draws,) are positive is ``"confirmed"``, ``"contradicted"`` or ``"undecided"``.

    It is decided where the whole interval has one sign.
    """
    low, high = interval(results)
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
    Every draw takes as many chords as there are, with replacement, and of as many runs as there are, with replacement,
    the mean: a frame's weight is how often its chord was drawn.
    """
    names, index = np.unique(as_array(chord), return_inverse=True)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    # After the chords, which do not depend on how many runs there are.
    shares = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=draws) / len(runs)
    results = np.stack([measure(*run, weights=times[:, index]) for run in runs], axis=1)
    return (shares * results).sum(axis=1)
