"""Training of flows: one loop, for a stack of note flows and for the conditional flow.

All units make their steps together (`ddslib.flows.steps`), each on its own frames (`ddslib.flows.units`), and each has
an early stop and a best state of its own.  A unit that is done leaves the stack, and costs no more time.
"""

import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import ConditionalFlowTraining, FlowTraining, InputError
from ..machine.device import policy
from ..machine.processes import progress
from ..machine.rounding import SINGLE, Rounding, fast_products
from ..spectra.frames import Frames
from .checkpoint import Checkpoint
from .files import below, joined
from .flow import Flow
from .glow import ConditionalGlow
from .realnvp import RealNVP
from .steps import Steps
from .units import UnitFrames

REVISION = 6  # raise when the same recipe and frames come to yield another flow


@dataclass(frozen=True)
class Trained:
    """A flow with the weights of its best epoch, and its losses by epoch.

    ``history["training"]`` and ``history["validation"]`` are (epochs, units), in nats a frame, and NaN where a
    unit was done already; with a nuisance classifier ``history["classifier"]`` (epochs, 1) is its cross-entropy.
    """

    flow: Flow
    history: dict[str, Tensor]
    seconds: float

    @property
    def best_losses(self) -> Tensor:
        """The selected validation loss of every unit (units,), in nats a frame."""
        return self.history["validation"].nan_to_num(torch.inf).amin(dim=0)


def build(recipe: FlowTraining, n_sources: int, dimensions: int, generator: torch.Generator | None) -> Flow:
    """The untrained flow that a recipe describes."""
    shape = n_sources, dimensions, recipe.steps, recipe.hidden
    if isinstance(recipe, ConditionalFlowTraining):
        return ConditionalGlow(*shape, recipe.semantic_weight, generator)
    return RealNVP(*shape, generator)


@fast_products()
def train(
    recipe: FlowTraining,
    frames: Frames,
    validation: np.ndarray,
    n_sources: int,
    seed: int,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    rounding: Rounding = SINGLE,
) -> Trained:
    """Train the recipe's flow on `frames`, and select by the loss of those that `validation` (M,) marks.

    The state is written to `checkpoint` now and then.  Where that file exists, training goes on from it, to the same
    weights as without the interruption.  The caller removes it once the result is safe.
    Raises `InputError` if a source has no frames on either side, or if the losses diverge.
    """
    trainer = Trainer(recipe, frames, validation, n_sources, seed, device, rounding)
    kept = Checkpoint(checkpoint)
    if state := kept.load():
        trainer.resume(state)
    with rounding.applied(), progress("training", "epoch", recipe.epochs, trainer.epochs, leave=False) as bar:
        while trainer.epochs < recipe.epochs and len(trainer.active):
            trainer.epoch()
            bar.update()
            bar.set_postfix(loss=float(trainer.result().best_losses.mean()), going=len(trainer.active))
            kept.save_if_due(trainer.state)
    return trainer.result()


class Trainer:
    """A training between two epochs; what it is given is as in `train`.

    A unit is done when for `patience` epochs no validation loss was less than its least.  ``active`` are those that are
    not, and ``history`` is as in `Trained`.
    """

    def __init__(self, recipe, frames, validation, n_sources, seed, device="cpu", rounding=SINGLE):
        self._recipe = recipe
        self._order = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator(device).manual_seed(seed)
        flow = build(recipe, n_sources, frames.values.shape[1], self._order).to(device).round_factors(rounding)
        self._best = deepcopy(flow, {id(buffer): buffer for buffer in flow.buffers()})  # which are the same for both
        self._frames = UnitFrames(flow, frames, validation)
        self.steps = Steps(recipe, flow, self._order, self._noise)
        self.active = torch.arange(flow.units)
        self.history = dict.fromkeys(("training", "validation"), torch.empty(0, flow.units))
        if self.steps.classifier:
            self.history["classifier"] = torch.empty(0, 1)
        self._seconds = 0.0

    @property
    def epochs(self) -> int:
        """How many are done."""
        return len(self.history["validation"])

    def epoch(self):
        """Go through the training frames once, validate, keep what got better, drop what is done."""
        begun = time.perf_counter()
        batches = self.batches()
        losses, entropy = 0, 0
        for rows in batches:
            found = self.step(rows)
            losses, entropy = losses + found[0], entropy + found[1]
        self._record("training", losses / len(batches))
        if self.steps.classifier:
            self._append("classifier", entropy[None] / len(batches))
        self._record("validation", self.validate())
        self._select()
        self._seconds += time.perf_counter() - begun

    def batches(self) -> Tensor:
        """Rows of the frames for the steps of an epoch: (steps, active units, batch)."""
        return self._frames.batches(self.active, self._recipe.batch, self._order)

    def step(self, rows: Tensor) -> tuple[Tensor, Tensor | float]:
        """One step on rows (active units, B); what it gives is as in `Steps.step`."""
        return self.steps.step(*self._frames.read(rows))

    @torch.no_grad()
    def validate(self) -> Tensor:
        """Mean validation losses (active units,)."""
        rows, real = self._frames.held_out(self.active)
        total, size = 0, policy(real.device).validation_batch
        for chosen, weight in zip(rows.split(size, 1), real.split(size, 1), strict=True):
            total = total + (self.steps.flow.losses(*self._frames.read(chosen)) * weight).sum(dim=1)
        return total / real.sum(dim=1)

    def _select(self):
        """Keep the weights of the active units that got better, and go on with those that are not done."""
        stale = self._epochs_since_best()[self.active]
        improved = self.active[stale == 0]
        for best, now in zip(self._best.parameters(), self.steps.flow.parameters(), strict=True):
            self._best.by_unit(best)[improved] = self.steps.flow.by_unit(now)[stale == 0]
        going = (stale < self._recipe.patience).nonzero().squeeze(1)
        self.active = self.active[going]
        if 0 < len(going) < len(stale):
            self.steps.keep(going)

    def _epochs_since_best(self):
        """Of every unit (units,)."""
        return self.epochs - 1 - self.history["validation"].nan_to_num(torch.inf).argmin(dim=0)

    def _record(self, name, losses):
        """A loss of each active unit (active units,)."""
        if not torch.isfinite(losses).all():
            raise InputError(
                f"the {name} loss is not finite in epoch {self.epochs + 1}; expected a smaller learning_rate"
            )
        everyone = torch.full((self._best.units,), torch.nan)
        everyone[self.active] = losses.cpu()
        self._append(name, everyone)

    def _append(self, name, values):
        self.history[name] = torch.cat([self.history[name], values[None].cpu()])

    def state(self) -> dict[str, Tensor]:
        """Everything that `resume` needs, as tensors on the CPU."""
        seconds = torch.tensor(self._seconds, dtype=torch.float64)
        own = {"order": self._order.get_state(), "noise": self._noise.get_state(), "seconds": seconds}
        return joined(own=own, steps=self.steps.state(), best=self._best.state_dict(), history=self.history)

    def resume(self, state: dict[str, Tensor]):
        """Take over what `state` gave."""
        self._best.load_state_dict(below("best", state))
        self.history = below("history", state)
        self.active = (self._epochs_since_best() < self._recipe.patience).nonzero().squeeze(1)
        if len(self.active):
            self.steps.resume(below("steps", state), self.active)
        self._order.set_state(state["own.order"])
        self._noise.set_state(state["own.noise"])
        self._seconds = float(state["own.seconds"])

    def result(self) -> Trained:
        """The flow with the best weights of every unit."""
        return Trained(self._best, self.history, self._seconds)
