"""What a search minimises: how far X̂ is from X, and what is asked for besides.

In what domain spectra add is the dictionary's to say: `ddslib.search.domains`.  Each domain has its objective here.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..spectra.spectrogram import expand
from .dictionary import Dictionary
from .domains import CompressedMagnitude

FLOOR = 1e-6  # of a recording's largest magnitude: what compressed magnitudes are compared above
FAINT = 0.01  # of a frame's norm: an activity below it counts as hardly any note


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

    def __init__(self, X: Tensor, likelihood_weight: float = 0.0, sparsity_weight: float = 0.0):
        self._X, self._likelihood_weight, self._sparsity_weight = X, likelihood_weight, sparsity_weight

    def start(self, dictionary: Dictionary, generator: torch.Generator | None = None) -> Tensor:
        """The activations H (entries, T) that a search starts from."""
        return dictionary.start(self._X, generator)

    def mix(self, dictionary: Dictionary, H: Tensor) -> Tensor:
        """X̂ (K, T), in the domain in which spectra add."""
        return dictionary.mix(H)

    def spectrogram(self, X_hat: Tensor) -> Tensor:
        """X̂ as it compares with the mixture's X (K, T)."""
        return X_hat

    def cost(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Cost:
        """J for X̂ (K, T), activations H (entries, T) and the dictionary's codes."""
        distance = torch.linalg.vector_norm(self._X - X_hat, dtype=torch.float64)
        total = distance + self._likelihood_weight * dictionary.penalty(H).value
        if self._sparsity_weight:
            total += self._sparsity_weight * H.sum(dtype=torch.float64)
        return Cost(total, distance)

    def activations_gradient(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Tensor:
        """∂J/∂H (entries, T)."""
        gradient = dictionary.correlate(self._direction(X_hat))
        if self._likelihood_weight:
            gradient += self._likelihood_weight * dictionary.penalty(H).gradient
        if self._sparsity_weight:
            gradient += self._sparsity_weight
        return gradient

    def gradients(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> tuple[Tensor, ...]:
        """Those of J for the dictionary's variables, in their order."""
        return dictionary.pull_back(self._direction(X_hat), H, self._likelihood_weight)

    def _direction(self, X_hat):
        """The gradient of the distance for X̂: the residual's direction, and zero where there is no residual."""
        residual = X_hat - self._X
        return residual / torch.linalg.vector_norm(residual).clamp(min=torch.finfo(residual.dtype).tiny)

    def growth(self, X_hat: Tensor, part: Tensor) -> Tensor:
        """By what the squared distance of each frame (T,) would grow without a `part` (K, T) of X̂."""
        return ((self._X - X_hat + part).double().square() - (self._X - X_hat).double().square()).sum(dim=0)


class CompressedMagnitudes:
    """Compressed magnitudes add, and few *notes* are asked for.

    V = W H + εᵖ, where ε is the recording's largest magnitude times 10⁻⁶, and A_nt is the sum of a note's activations::

        J = D(Xᵖ ‖ V) + μ Σ_nt scale_t log(a_t + A_nt) + λ ΣXᵖ · penalty / T
        D(X ‖ V) = Σ X log(X / V) − X + V,   scale_t = Σ_k Xᵖ_kt / N,   a_t = 0.01 ‖Xᵖ_t‖

    D is the Kullback-Leibler divergence.  The logarithm is taken of a note's activity, not of an entry's: it asks for
    few notes, and lets a note use as many entries as it likes.
    """

    def __init__(
        self, X: Tensor, domain: CompressedMagnitude, likelihood_weight: float = 0.0, sparsity_weight: float = 0.0
    ):
        self._domain, self._likelihood_weight, self._sparsity_weight = domain, likelihood_weight, sparsity_weight
        self._tiny = torch.finfo(X.dtype).tiny
        self._floor = FLOOR * expand(X, domain.gamma).max()
        self._constant = self._floor**domain.exponent  # a component of every frame
        self._X = domain.mixture(X, self._floor)
        self._sounds = X.any(dim=0)  # (T,): a frame that is zero throughout has no activity
        self._sum = self._X.sum().clamp(min=self._tiny)
        self._faint = (FAINT * self._X.norm(dim=0)).clamp(min=self._tiny)

    def start(self, dictionary: Dictionary, generator: torch.Generator | None = None) -> Tensor:
        """Even activations H (entries, T), under which X̂ is as large as X on the whole."""
        T = self._X.shape[1]
        dictionary.refresh()
        sums = dictionary.correlate(torch.ones_like(self._X[:, :1]))
        return (self._sum / (T * sums.sum()) * self._sounds).expand(len(sums), T).clone()

    def mix(self, dictionary: Dictionary, H: Tensor) -> Tensor:
        """V (K, T)."""
        return dictionary.mix(H) + self._constant

    def spectrogram(self, X_hat: Tensor) -> Tensor:
        """V as it compares with the mixture's log-compressed X (K, T)."""
        return self._domain.spectrogram(X_hat, self._floor)

    def cost(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Cost:
        """J for V (K, T), activations H (entries, T) and the dictionary's codes."""
        distance = (torch.xlogy(self._X, self._ratio(X_hat)) - self._X + X_hat).sum(dtype=torch.float64)
        A = dictionary.attribute(H)
        few_notes = (self._scale(A) * (self._faint + A).log()).sum(dtype=torch.float64)
        total = distance + self._sparsity_weight * few_notes
        if self._likelihood_weight:
            total += self._likelihood_weight * self._sum * dictionary.penalty(self._relative(H)).value / H.shape[1]
        return Cost(total, distance)

    def descent(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> Tensor:
        """What H (entries, T) is multiplied by so that J falls, as long as entries stay as they are.

        The divergence is bounded from above as usual, and the concave logarithm by its tangent.
        """
        wanted = dictionary.correlate(self._ratio(X_hat))
        sums = dictionary.correlate(torch.ones_like(X_hat[:, :1]))
        if not self._sparsity_weight:
            return wanted / sums.clamp(min=self._tiny)
        A = dictionary.attribute(H)
        slope = self._sparsity_weight * self._scale(A) / (self._faint + A)
        return wanted / (sums + dictionary.spread(slope)).clamp(min=self._tiny)

    def gradients(self, X_hat: Tensor, H: Tensor, dictionary: Dictionary) -> tuple[Tensor, ...]:
        """Those of J / ΣXᵖ for the dictionary's variables, in order, with the shares of the penalty held fixed."""
        loudness = H.sum().clamp(min=self._tiny) / H.shape[1]  # with it, nothing depends on the level of the recording
        G = (1 - self._ratio(X_hat)) / self._sum * loudness
        return dictionary.pull_back(G, H / loudness, self._likelihood_weight / H.shape[1])

    def growth(self, X_hat: Tensor, part: Tensor) -> Tensor:
        """By what the divergence of each frame (T,) would grow without a `part` (K, T) of V."""
        V = X_hat.double().clamp(min=self._tiny)
        rest = torch.maximum(V - part, self._constant).clamp(min=self._tiny)
        return (torch.xlogy(self._X, V / rest) - V + rest).sum(dim=0)

    def _ratio(self, X_hat):
        return self._X / X_hat.clamp(min=self._tiny)

    def _relative(self, H):
        return H / (H.sum().clamp(min=self._tiny) / H.shape[1])

    def _scale(self, A):
        """Of the sparsity, by frame (T,)."""
        return self._X.sum(dim=0) / len(A)


Objective = LogMagnitudes | CompressedMagnitudes
