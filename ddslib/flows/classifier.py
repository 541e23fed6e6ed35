"""The classifier that a conditional flow learns against: no note is to be told from a code (paper §III-D)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..config import ConditionalFlowTraining
from ..machine.device import policy
from .fused import affine
from .glow import ConditionalGlow
from .layers import MLP

DROPOUT = 0.1


class NuisanceClassifier(nn.Module):
    """Tells the source from the nuisance part of a latent vector: (B, K - N) to logits (B, N).

    Its first weights, and the order of shuffled labels, are drawn from `order`, and its dropout from `noise`, which is
    on the flow's device.
    """

    def __init__(
        self, recipe: ConditionalFlowTraining, flow: ConditionalGlow, order: torch.Generator, noise: torch.Generator
    ):
        super().__init__()
        hidden = [flow.dimensions // 2] * 2
        self.mlp = MLP([flow.code_dimensions, *hidden, flow.n_sources], math.sqrt(2), (), order).to(flow.like)
        self.optimiser = policy(flow.like.device).adam(self.parameters(), recipe.classifier_learning_rate)
        self._recipe, self._order, self._noise = recipe, order, noise

    def labels(self, sources: Tensor) -> Tensor:
        """What the classifier is told, and the flow is to hide: sources (1, B), or the same in another order."""
        if self._recipe.nuisance_labels == "own":
            return sources
        return sources[:, torch.randperm(sources.shape[1], generator=self._order)]

    def losses(self, flow: ConditionalGlow, x: Tensor, sources: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The flow's loss (1,), less what the classifier fails by after it has learnt, and the classifier's own.

        Frames are (1, B, K), sources and labels (1, B).
        """
        z, log_det = flow.transform(x[0])
        _, nuisance = flow.split(z)
        for _ in range(self._recipe.classifier_steps):
            entropy = self.learn(nuisance.detach(), labels[0])
        loss = -flow.log_density(z, log_det, sources[0]).mean()
        return (loss - self._recipe.nuisance_weight * self.cross_entropy(nuisance, labels[0]))[None], entropy

    def learn(self, nuisance: Tensor, labels: Tensor) -> Tensor:
        """One step; its cross-entropy in nats."""
        self.requires_grad_().train()
        self.optimiser.zero_grad()
        loss = self.cross_entropy(nuisance, labels)
        loss.backward()
        self.optimiser.step()
        self.requires_grad_(False).eval()
        return loss.detach()

    def cross_entropy(self, nuisance: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self._logits(nuisance), labels)

    def _logits(self, x):
        *hidden, last = zip(self.mlp.weights, self.mlp.biases, strict=True)
        for weight, bias in hidden:
            x = functional.relu(affine(x, weight, bias))
            if self.training:
                x = _dropout(x, self._noise)
        return affine(x, *last)


def _dropout(x, generator):
    """torch's own takes no generator, and a resumed training has to draw the same."""
    return x * torch.empty_like(x).bernoulli_(1 - DROPOUT, generator=generator) / (1 - DROPOUT)
