"""What a search minimises: in what domain spectra add, how far X̂ is from X, and what is asked for besides.

Here X and entries are taken as they are, compressed.  An objective in which something else adds maps X when `Search`
begins, and entries where they are made: stored ones in `ddslib.search.stored`, decoded ones in
`ddslib.search.decoded.Decoded`, through which automatic differentiation finds the gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .dictionary import Dictionary


class Cost(NamedTuple):
    """J, and the part of it that is the distance between X and X̂; both (), in double precision.

    In single precision a cost that hardly falls may repeat to the last bit.
    """

    total: Tensor
    distance: Tensor


class LogMagnitudes:
    """The paper's objective: log magnitudes add (§IV-C).

    J = ‖X − X̂‖_F + λ · penalty + μ · ΣH.  The norm is Frobenius's, not squared; λ weighs the penalty of unlikely codes,
    and μ a sparsity that the paper does not have.
    """

    mixing = "log magnitude"  # the domain in which spectra add, as rows name it

    def __init__(self, likelihood_weight: float, sparsity_weight: float):
        self._likelihood_weight, self._sparsity_weight = likelihood_weight, sparsity_weight

    def cost(self, X: Tensor, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Cost:
        """J for X and X̂ (K, T), activations H (entries, T) and the dictionary's codes."""
        distance = torch.linalg.vector_norm(X - X_hat, dtype=torch.float64)
        total = distance + self._likelihood_weight * dictionary.penalty(H).value
        if self._sparsity_weight:
            total += self._sparsity_weight * H.sum(dtype=torch.float64)
        return Cost(total, distance)

    def activations_gradient(self, X: Tensor, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Tensor:
        """∂J/∂H (entries, T)."""
        gradient = dictionary.correlate(self._direction(X, X_hat))
        if self._likelihood_weight:
            gradient += self._likelihood_weight * dictionary.penalty(H).gradient
        if self._sparsity_weight:
            gradient += self._sparsity_weight
        return gradient

    def codes_gradient(self, X: Tensor, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Tensor:
        """∂J/∂codes, of their shape."""
        return dictionary.pull_back(self._direction(X, X_hat), H, self._likelihood_weight)

    def _direction(self, X, X_hat):
        """The gradient of the distance for X̂: the residual's direction, and zero where there is no residual."""
        residual = X_hat - X
        return residual / torch.linalg.vector_norm(residual).clamp(min=torch.finfo(X.dtype).tiny)
