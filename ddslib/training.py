"""Training of flows: one loop, for a stack of note flows and for the conditional flow.

A *unit* is what has a loss, an early stop and a best state of its own: each flow of a stack, or the one
conditional flow.  All units make their steps together.  A unit that is done leaves the stack, and
costs no more time.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from .artefacts import writing
from .config import ConditionalFlowTraining, FlowTraining, InputError
from .cuda import Recorder, adam, fits
from .flows import ConditionalGlow, Flow, RealNVP, below
from .frames import Frames
from .fused import affine
from .layers import MLP
from .precision import fast_products, tensor_cores
from .processes import progress

REVISION = 6  # raise when the same recipe and frames come to yield another flow
CHECKPOINT_SECONDS = 60.0  # least time between two checkpoints
CHECKPOINT_SHARE = 0.05  # of the time, at most, goes into writing them
DROPOUT = 0.1  # of the nuisance classifier
VALIDATION_BATCH = {"cpu": 256, "cuda": 4096}  # frames of a unit at a time


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


def build(recipe: FlowTraining, n_sources: int, dimensions: int, generator: torch.Generator) -> Flow:
    """The untrained flow that a recipe describes."""
    if isinstance(recipe, ConditionalFlowTraining):
        weight = recipe.semantic_weight
        return ConditionalGlow(n_sources, dimensions, recipe.steps, recipe.hidden, weight, generator)
    return RealNVP(n_sources, dimensions, recipe.steps, recipe.hidden, generator)


@fast_products()
def train(
    recipe: FlowTraining,
    frames: Frames,
    validation: np.ndarray,
    n_sources: int,
    seed: int,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    mixed: bool = False,
) -> Trained:
    """Train the recipe's flow on `frames`, and select by the loss of those that `validation` (M,) marks.

    With `mixed` the factors of products are rounded as on a GPU, see `ddslib.precision`.

    The state is written to `checkpoint` about once a minute, less often where that takes seconds.  Where that file
    exists, training goes on from it, to the same weights as without the interruption.  The caller removes it once the
    result is safe.
    Raises `InputError` if a source has no frames on either side, or if the losses diverge.
    """
    device = torch.device(device)
    run = _Run(recipe, _Data(recipe, frames, validation, n_sources, device), n_sources, seed, device, mixed)
    if checkpoint is not None and checkpoint.exists():
        run.resume(load_file(checkpoint))
    bar = progress("training", "epoch", recipe.epochs, run.epochs, leave=False)
    due = time.monotonic() + CHECKPOINT_SECONDS
    while run.epochs < recipe.epochs and len(run.active):
        with tensor_cores(mixed):
            run.epoch()
        bar.update()
        bar.set_postfix(loss=float(run.best_losses.mean()), going=len(run.active))
        if checkpoint is not None and time.monotonic() >= due:
            due = _save_checkpoint(run, checkpoint)
    bar.close()
    return run.result()


def _save_checkpoint(run: "_Run", path: Path) -> float:
    """Write the run's state; when that is due next, on the monotonic clock."""
    begun = time.monotonic()
    with writing(path) as target:
        save_file(run.state(), target)
    now = time.monotonic()
    return now + max(CHECKPOINT_SECONDS, (now - begun) / CHECKPOINT_SHARE)


class _Data:
    """The frames of each unit, and in which order they come."""

    def __init__(
        self, recipe: FlowTraining, frames: Frames, validation: np.ndarray, n_sources: int, device: torch.device
    ):
        conditional = isinstance(recipe, ConditionalFlowTraining)
        units = np.zeros_like(frames.sources) if conditional else frames.sources
        self.units = 1 if conditional else n_sources
        self._device = device
        self.values = torch.as_tensor(frames.values)
        self._sources = torch.as_tensor(frames.sources)
        if fits(frames.values.nbytes, device):
            self.values, self._sources = self.values.to(device), self._sources.to(device)
        self.training = [self._rows(units, unit, ~validation, "train on") for unit in range(self.units)]
        self.validation = [self._rows(units, unit, validation, "validate with") for unit in range(self.units)]

    def _rows(self, units: np.ndarray, unit: int, side: np.ndarray, purpose: str) -> Tensor:
        rows = np.flatnonzero((units == unit) & side)
        if not len(rows):
            raise InputError(f"source {unit} has no frames to {purpose}")
        return torch.from_numpy(rows)

    def epoch(self, active: Tensor, batch: int, generator: torch.Generator) -> Tensor:
        """Rows (steps, active units, batch): every unit goes round its own frames, the longest once."""
        sizes = [len(self.training[unit]) for unit in active]
        steps = -(-max(sizes) // batch)
        orders = [self._round(self.training[unit], steps * batch, generator) for unit in active]
        rows = torch.stack(orders).to(self.values.device)
        return rows.unflatten(1, (steps, batch)).transpose(0, 1)

    @staticmethod
    def _round(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
        rounds = [rows[torch.randperm(len(rows), generator=generator)] for _ in range(-(-count // len(rows)))]
        return torch.cat(rounds)[:count]

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (units, B, K) and sources (units, B) of rows (units, B), on the device."""
        return self._moved(self.values[rows]), self._moved(self._sources[rows])

    def _moved(self, chosen: Tensor) -> Tensor:
        """To a GPU from memory that it reads by itself, so that nothing has to wait for the copy."""
        if chosen.device.type == self._device.type:
            return chosen
        return chosen.pin_memory().to(self._device, non_blocking=True)

    def held_out(self, active: Tensor) -> tuple[Tensor, Tensor]:
        """Validation rows (active units, longest), and which of them are real and not padding."""
        chosen = [self.validation[unit] for unit in active]
        rows = nn.utils.rnn.pad_sequence(chosen, batch_first=True).to(self.values.device)
        real = nn.utils.rnn.pad_sequence([torch.ones(len(c)) for c in chosen], batch_first=True)
        return rows, real.to(self._device)


class NuisanceClassifier(nn.Module):
    """Tells the source from the nuisance part of a latent vector: (B, K - N) to logits (B, N) (paper §III-D)."""

    def __init__(self, flow: ConditionalGlow, learning_rate: float, weights: torch.Generator, dropout: torch.Generator):
        super().__init__()
        width = flow.dimensions // 2
        widths = [flow.code_dimensions, width, width, flow.n_sources]
        self.mlp = MLP(widths, math.sqrt(2), (), weights).to(flow.like)
        self.dropout = dropout
        self.optimiser = adam(self.parameters(), learning_rate)

    def learn(self, nuisance: Tensor, labels: Tensor) -> Tensor:
        """One step; its cross-entropy in nats."""
        self.requires_grad_(True).train()
        self.optimiser.zero_grad()
        loss = self.cross_entropy(nuisance, labels)
        loss.backward()
        self.optimiser.step()
        self.requires_grad_(False).eval()
        return loss.detach()

    def cross_entropy(self, nuisance: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(self._logits(nuisance), labels)

    def _logits(self, x: Tensor) -> Tensor:
        *hidden, last = zip(self.mlp.weights, self.mlp.biases, strict=True)
        for weight, bias in hidden:
            x = functional.relu(affine(x, weight, bias))
            if self.training:
                x = _dropout(x, self.dropout)
        return affine(x, *last)


def _dropout(x: Tensor, generator: torch.Generator) -> Tensor:
    """torch's own takes no generator, and a resumed training has to draw the same."""
    return x * torch.empty_like(x).bernoulli_(1 - DROPOUT, generator=generator) / (1 - DROPOUT)


class _Run:
    """A training between two epochs: all that has to be kept to go on."""

    def __init__(
        self, recipe: FlowTraining, data: _Data, n_sources: int, seed: int, device: torch.device, mixed: bool = False
    ):
        self.recipe, self.data, self.device = recipe, data, device
        self.order = torch.Generator().manual_seed(seed)
        self.noise = torch.Generator(device).manual_seed(seed)
        self.whole = build(recipe, n_sources, data.values.shape[1], self.order).to(device)
        if mixed:
            self.whole.round_factors()
        self._go_on_with(self.whole)
        self.classifier = None
        if isinstance(recipe, ConditionalFlowTraining) and recipe.nuisance_weight:
            self.classifier = NuisanceClassifier(
                self.flow, recipe.classifier_learning_rate, self.order, self.noise
            )  # fmt: skip
        self.active = torch.arange(data.units)
        self.best = {name: rows.clone() for name, rows in _rows(self.flow).items()}
        self.best_losses = torch.full((data.units,), torch.inf)
        self.stale = torch.zeros(data.units)
        self.history: dict[str, list[Tensor]] = {"training": [], "validation": []}
        if self.classifier:
            self.history["classifier"] = []
        self.seconds = 0.0

    @property
    def epochs(self) -> int:
        return len(self.history["validation"])

    def _go_on_with(self, flow: Flow) -> None:
        """Train this flow from here on."""
        self.flow = flow.fuse() if self.recipe.compiled else flow
        self.optimiser = adam(flow.parameters(), self.recipe.learning_rate)
        self._recorder = Recorder(self.device, [self.noise])

    def epoch(self) -> None:
        """Go through the training frames once, validate, keep what got better, drop what is done."""
        begun = time.perf_counter()
        batches = self.data.epoch(self.active, self.recipe.batch, self.order)
        losses, entropy = 0, 0
        for rows in batches:
            found = self._step(rows)
            losses, entropy = losses + found[0], entropy + found[1]
        self._note("training", losses / len(batches))
        if self.classifier:
            self.history["classifier"].append(entropy[None].cpu() / len(batches))
        self._select(self._validate())
        self.seconds += time.perf_counter() - begun

    def _note(self, name: str, losses: Tensor) -> None:
        if not torch.isfinite(losses).all():
            raise InputError(
                f"the {name} loss is not finite in epoch {self.epochs + 1}; expected a smaller learning_rate"
            )
        everyone = torch.full((self.data.units,), torch.nan)
        everyone[self.active] = losses.cpu()
        self.history[name].append(everyone)

    def _step(self, rows: Tensor) -> tuple[Tensor, Tensor | float]:
        """One step of Adam on rows (active units, B); the losses (active units,), and the classifier's."""
        x, sources = self.data.batch(rows)
        return self._recorder(self._descend, x, sources, self._labels(sources))

    def _labels(self, sources: Tensor) -> Tensor:
        """What the classifier is told, and the flow is to hide."""
        if self.classifier and self.recipe.nuisance_labels == "shuffled":
            return sources[:, torch.randperm(sources.shape[1], generator=self.order)]
        return sources

    def _descend(self, x: Tensor, sources: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | float]:
        """The part of `_step` that can be recorded: it runs on the device alone."""
        if self.recipe.noise:
            x += self.recipe.noise * torch.randn(x.shape, generator=self.noise, device=self.device)
        entropy = 0.0
        if self.classifier:
            losses, entropy = self._penalised(x[0], sources[0], labels[0])
        else:
            losses = self._losses(x, sources).mean(dim=1)
        self.optimiser.zero_grad()
        losses.sum().backward()
        self._clip()
        self.optimiser.step()
        return losses.detach(), entropy

    def _losses(self, x: Tensor, sources: Tensor) -> Tensor:
        """Negative log-likelihoods (units, B) in nats; whether they are finite is asked once an epoch."""
        if isinstance(self.flow, ConditionalGlow):
            return -self.flow.log_density(*self.flow.ahead(x[0]), sources[0])[None]
        return -self.flow.log_density(*self.flow.ahead(x))

    def _penalised(self, x: Tensor, sources: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional flow's loss (1,), and the classifier's: the flow tries to make the classifier fail."""
        z, log_det = self.flow.ahead(x)
        _, nuisance = self.flow.split(z)
        for _ in range(self.recipe.classifier_steps):
            entropy = self.classifier.learn(nuisance.detach(), labels)
        loss = -self.flow.log_density(z, log_det, sources).mean()
        return (loss - self.recipe.nuisance_weight * self.classifier.cross_entropy(nuisance, labels))[None], entropy

    def _clip(self) -> None:
        """Scale down the gradient of every unit whose norm is too large."""
        if self.recipe.gradient_clipping is None:
            return
        if not isinstance(self.flow, RealNVP):
            nn.utils.clip_grad_norm_(self.flow.parameters(), self.recipe.gradient_clipping)
            return
        gradients = [rows.grad for rows in self.flow.parameters()]
        norms = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
        norm = torch.linalg.vector_norm(norms, dim=0)
        scale = (self.recipe.gradient_clipping / norm.clamp(min=1e-12)).clamp(max=1)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

    @torch.no_grad()
    def _validate(self) -> Tensor:
        """Mean validation losses (active units,)."""
        rows, real = self.data.held_out(self.active)
        total = torch.zeros(len(self.active), device=self.device)
        size = VALIDATION_BATCH[self.device.type]
        for chosen, weight in zip(rows.split(size, 1), real.split(size, 1), strict=True):
            total += (self._losses(*self.data.batch(chosen)) * weight).sum(dim=1)
        return (total / real.sum(dim=1)).cpu()

    def _select(self, losses: Tensor) -> None:
        self._note("validation", losses)
        better = losses < self.best_losses[self.active]
        improved = self.active[better]
        for name, rows in _rows(self.flow).items():
            self.best[name][improved.to(self.device)] = rows[better.to(self.device)]
        self.best_losses[improved] = losses[better]
        self.stale[self.active] += 1
        self.stale[improved] = 0
        going = self.stale[self.active] < self.recipe.patience
        if not going.all():
            self._keep(going)

    def _keep(self, going: Tensor) -> None:
        """Go on with some of the active units only."""
        self.active = self.active[going]
        if not len(self.active):
            return
        before, moments = self.flow, self.optimiser.state
        kept = going.nonzero().squeeze(1)
        self._go_on_with(before.take(kept))
        for old, new in zip(before.parameters(), self.flow.parameters(), strict=True):
            self.optimiser.state[new] = {
                key: value[kept.to(self.device)] if value.ndim else value for key, value in moments[old].items()
            }

    def state(self) -> dict[str, Tensor]:
        """Everything that `resume` needs, as tensors on the CPU, no copies of those that are there already."""
        state = {f"flow.{name}": value for name, value in self.flow.state_dict().items()}
        state |= {f"best.{name}": value for name, value in self.best.items()}
        state |= _moments("adam.", self.flow, self.optimiser)
        if self.classifier:
            state |= {f"classifier.{name}": value for name, value in self.classifier.state_dict().items()}
            state |= _moments("classifier_adam.", self.classifier, self.classifier.optimiser)
        state |= {f"history.{name}": torch.stack(values) for name, values in self.history.items()}
        state |= {"active": self.active, "best_losses": self.best_losses, "stale": self.stale}
        state |= {"order": self.order.get_state(), "noise": self.noise.get_state()}
        state["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
        return {name: value.detach().cpu() for name, value in state.items()}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave."""
        self.active = state["active"]
        buffers = {name: state[f"flow.{name}"] for name, _ in self.flow.named_buffers()}
        self.flow.load_state_dict(buffers, strict=False)
        if len(self.active):
            self._resume_steps(state)
        if self.classifier:
            self.classifier.load_state_dict(below("classifier.", state))
            _set_moments("classifier_adam.", self.classifier, self.classifier.optimiser, state)
        self.best = {name: value.to(self.device) for name, value in below("best.", state).items()}
        self.history = {name: list(values) for name, values in below("history.", state).items()}
        self.best_losses, self.stale = state["best_losses"], state["stale"]
        self.order.set_state(state["order"])
        self.noise.set_state(state["noise"])
        self.seconds = float(state["seconds"])

    def _resume_steps(self, state: dict[str, Tensor]) -> None:
        if len(self.active) < self.data.units:
            self._go_on_with(self.flow.take(self.active))
        self.flow.load_state_dict(below("flow.", state))
        _set_moments("adam.", self.flow, self.optimiser, state)

    def result(self) -> Trained:
        """The flow with the best weights of every unit."""
        self.whole.load_state_dict(dict(self.flow.named_buffers()), strict=False)
        for name, rows in _rows(self.whole).items():
            rows.copy_(self.best[name])
        history = {name: torch.stack(values) for name, values in self.history.items()}
        return Trained(self.whole, history, self.seconds)


def _rows(flow: Flow) -> dict[str, Tensor]:
    """The parameters with the units as their first axis; they share their memory with the flow's."""
    stacked = isinstance(flow, RealNVP)
    return {name: p.detach() if stacked else p.detach()[None] for name, p in flow.named_parameters()}


def _moments(prefix: str, module: nn.Module, optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    return {
        f"{prefix}{key}.{name}": value
        for name, parameter in module.named_parameters()
        for key, value in optimiser.state[parameter].items()
    }


def _set_moments(prefix: str, module: nn.Module, optimiser: torch.optim.Adam, state: dict[str, Tensor]) -> None:
    for name, parameter in module.named_parameters():
        optimiser.state[parameter] = {
            key: state[f"{prefix}{key}.{name}"].to(parameter.device) for key in ("step", "exp_avg", "exp_avg_sq")
        }
