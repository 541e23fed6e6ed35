"""What an iteration or a training step has to do at least: operations, and bytes that have to be moved.

An operation is an addition or a multiplication, so a product of (m, k) by (k, n) has 2 m k n.  Counted are the
products, which are the bulk; a frozen mixing and its ActNorm are one product.  Bytes are those of the weights, of
what comes in and of what goes out, each once.  Adam's two moments come in and go out.
"""

from dataclasses import dataclass

NUMBER = 4  # bytes, in single precision
SEARCHED = 6  # a variable under Adam, and its two moments: each read and written


@dataclass(frozen=True)
class Work:
    """At least so much has to be done."""

    operations: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.bytes + other.bytes)

    def __rmul__(self, times: float) -> "Work":
        return Work(times * self.operations, times * self.bytes)
