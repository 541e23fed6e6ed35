"""What an iteration has to do at least, for dictionaries of stored and of decoded entries.

The unit is that of `ddslib.machine.work`.  What a method's cost depends on are the letters of `ddslib.config.Sizes`;
`predicted` has the exponents of the paper's Table I, by part and letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..config import Sizes
from ..flows.work import FlowShape, decoding
from ..machine.work import NUMBER, SEARCHED, Work


@dataclass(frozen=True)
class CountedWork:
    """Of as many entries as ``entries(sizes)``; as it stands of stored ones, which cost nothing but their products."""

    entries: Callable[[Sizes], int]
    factors: str  # letters of what the cost depends on
    predicted: Mapping[str, Mapping[str, int]]  # exponents of Table I

    def activations(self, sizes: Sizes) -> int:
        """How many numbers H has."""
        return self.entries(sizes) * sizes.T

    def building(self, sizes: Sizes) -> Work:
        """W from Z; there is nothing to do where W is given."""
        return Work(0, 0)

    def parts(self, sizes: Sizes) -> dict[str, Work]:
        """Of an iteration: ``"W"`` from Z, and ``"X_hat"`` from W and H."""
        K, activations = sizes.K, self.activations(sizes)
        mixing = Work(2 * K * activations, NUMBER * (K * self.entries(sizes) + activations + K * sizes.T))
        return {"W": self.building(sizes), "X_hat": mixing}

    def iteration(self, sizes: Sizes) -> Work:
        """Of a whole iteration: W H, and Wᵀ G."""
        K, activations = sizes.K, self.activations(sizes)
        moved = K * self.entries(sizes) + K * sizes.T + SEARCHED * activations
        return Work(2 * (2 * K * activations), NUMBER * moved)

    def stored(self, sizes: Sizes) -> int:
        """How many numbers weights and W are: what Table I calls space."""
        return sizes.K * self.entries(sizes)


@dataclass(frozen=True)
class DecodedWork(CountedWork):
    """Of entries that one of the profile's flows decodes, each for all frames, or ``by_frame`` for one frame alone."""

    flow: str
    by_frame: bool = False

    def activations(self, sizes):
        return self.entries(sizes) if self.by_frame else super().activations(sizes)

    def building(self, sizes):
        return decoding(self._shape(sizes), self.entries(sizes))

    def iteration(self, sizes):
        """Decode, pull back, and the products W H (twice), Wᵀ G and G Hᵀ."""
        shape, entries, activations = self._shape(sizes), self.entries(sizes), self.activations(sizes)
        operations = 2 * shape.pass_over(entries) + 4 * (2 * sizes.K * activations)
        searched = SEARCHED * (entries * shape.code_dimensions(sizes.N) + activations)
        return Work(operations, NUMBER * (shape.weights + sizes.K * sizes.T + searched))

    def stored(self, sizes):
        return self._shape(sizes).weights + super().stored(sizes)

    def _shape(self, sizes):
        return FlowShape.of(self.flow, sizes)
