"""What an iteration has to do at least, for dictionaries of stored and of shared entries.

The unit is that of `ddslib.machine.work`.  What a method's cost depends on are the letters of `ddslib.config.Sizes`;
`predicted` has the exponents of the paper's Table I, by part and letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..config import Sizes
from ..flows.work import FlowShape, decoding
from ..machine.work import NUMBER, SEARCHED, Work


class CountedWork(Protocol):
    """What is counted of every method."""

    factors: str  # letters of what the cost depends on
    predicted: Mapping[str, Mapping[str, int]]  # exponents of Table I

    def parts(self, sizes: Sizes) -> dict[str, Work]:
        """Of an iteration: ``"W"`` from Z, and ``"X_hat"`` from W and H."""

    def iteration(self, sizes: Sizes) -> Work:
        """Of a whole iteration."""

    def stored(self, sizes: Sizes) -> int:
        """How many numbers weights and W are: what Table I calls space."""


def mixing(bins: int, entries: int, frames: int) -> Work:
    """X̂ from W and H."""
    return Work(2 * bins * entries * frames, NUMBER * (bins * entries + entries * frames + bins * frames))


@dataclass(frozen=True)
class StoredWork:
    """Of fixed entries, as many as ``entries(sizes)``."""

    entries: Callable[[Sizes], int]
    factors: str
    predicted: Mapping[str, Mapping[str, int]]

    def parts(self, sizes):
        return {"W": Work(0, 0), "X_hat": mixing(sizes.K, self.entries(sizes), sizes.T)}

    def iteration(self, sizes):
        """W H, and Wᵀ G."""
        K, T, entries = sizes.K, sizes.T, self.entries(sizes)
        products = 2 * (2 * K * entries * T)
        return Work(products, NUMBER * (K * entries + K * T + SEARCHED * entries * T))

    def stored(self, sizes):
        return sizes.K * self.entries(sizes)


@dataclass(frozen=True)
class SharedWork:
    """Of C entries a source, shared over time, that one of the profile's flows decodes."""

    flow: str
    factors = "TKNC"
    predicted = {  # noqa: RUF012
        "W": {"T": 0, "K": 2, "N": 1, "C": 1},
        "X_hat": {"T": 1, "K": 1, "N": 1, "C": 1, "K, fixed widths": 1},
    }

    def parts(self, sizes):
        entries = sizes.N * sizes.C
        return {"W": decoding(self._shape(sizes), entries), "X_hat": mixing(sizes.K, entries, sizes.T)}

    def iteration(self, sizes):
        """Decode, pull back, and the products W H (twice), Wᵀ G and G Hᵀ."""
        shape, entries = self._shape(sizes), sizes.N * sizes.C
        operations = 2 * shape.pass_over(entries) + 4 * (2 * sizes.K * entries * sizes.T)
        searched = SEARCHED * (entries * shape.code_dimensions(sizes.N) + entries * sizes.T)
        return Work(operations, NUMBER * (shape.weights + sizes.K * sizes.T + searched))

    def stored(self, sizes):
        return self._shape(sizes).weights + sizes.N * sizes.C * sizes.K

    def _shape(self, sizes):
        return FlowShape.of(self.flow, sizes)
