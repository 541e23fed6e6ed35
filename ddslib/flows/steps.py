"""Steps of a training: losses, gradients, clipping, Adam."""

import torch

from ..config import ConditionalFlowTraining
from ..machine.device import policy
from ..machine.recording import Recorder
from .classifier import NuisanceClassifier
from .files import below, joined


class Steps:
    """A flow that learns, with its optimiser, and the classifier that it learns against, if the recipe has one.

    Shuffles are drawn from `order`, and all that is drawn on the flow's device from `noise`.
    """

    def __init__(self, recipe, flow, order, noise):
        self._recipe, self._noise = recipe, noise
        self._go_on_with(flow)
        self.classifier = None
        if isinstance(recipe, ConditionalFlowTraining) and recipe.nuisance_weight:
            self.classifier = NuisanceClassifier(recipe, flow, order, noise)

    def _go_on_with(self, flow):
        """Train this flow from here on."""
        self.flow, device = flow.fuse() if self._recipe.compiled else flow, flow.like.device
        self._optimiser = policy(device).adam(flow.parameters(), self._recipe.learning_rate)
        self._recorder = Recorder(device, [self._noise])

    def step(self, x, sources):
        """One step of Adam on frames (units, B, K), which noise is added to, of sources (units, B).

        The losses (units,), and the classifier's.  The next step may overwrite them.
        """
        labels = self.classifier.labels(sources) if self.classifier else sources
        return self._recorder(self.descend, x, sources, labels)

    def descend(self, x, sources, labels):
        """The part of a step that can be recorded: it runs on the device alone."""
        if self._recipe.noise:
            x += self._recipe.noise * torch.randn(x.shape, generator=self._noise, device=x.device)
        if self.classifier:
            losses, entropy = self.classifier.losses(self.flow, x, sources, labels)
        else:
            losses, entropy = self.flow.losses(x, sources).mean(dim=1), 0.0
        self._optimiser.zero_grad()
        losses.sum().backward()
        if self._recipe.gradient_clipping is not None:
            self.flow.clip_gradients(self._recipe.gradient_clipping)
        self._optimiser.step()
        return losses.detach(), entropy

    def keep(self, units):
        """Go on with some of the units only, by their places in the stack."""
        before, moments = self.flow, self._optimiser.state
        self._go_on_with(before.select(units))
        for old, new in zip(before.parameters(), self.flow.parameters(), strict=True):
            self._optimiser.state[new] = {
                key: value[units] if value.ndim else value for key, value in moments[old].items()
            }

    def _learners(self):
        """What has weights and an optimiser of its own, by name."""
        learners = {"flow": (self.flow, self._optimiser)}
        if self.classifier:
            learners["classifier"] = self.classifier, self.classifier.optimiser
        return learners.items()

    def state(self):
        """All that `resume` needs.  The flow's buffers are those of the flow with the best weights."""
        state = {}
        for learner, (module, optimiser) in self._learners():
            for name, weight in module.named_parameters():
                state |= joined(**{f"{learner}.{name}": {"weight": weight, **optimiser.state[weight]}})
        return state

    def resume(self, state, active):
        """Take over what `state` gave when these units were active."""
        if len(active) < self.flow.units:
            self._go_on_with(self.flow.select(active))
        for learner, (module, optimiser) in self._learners():
            for name, weight in module.named_parameters():
                own = below(f"{learner}.{name}", state)
                weight.data.copy_(own.pop("weight"))
                optimiser.state[weight] = {key: value.to(weight.device) for key, value in own.items()}
