"""Trained flows: from the folder, or trained from the frames."""

from dataclasses import asdict
from pathlib import Path

import torch

from .. import __version__
from ..artefacts import digest
from ..flows import files, training
from ..flows.training import Trained
from ..machine.device import policy, resolve_device
from .data import Data


class Trainings(Data):
    """The data, and the flows that are trained on them on a device."""

    def __init__(self, profile, folder, maps_root="", device="auto"):
        super().__init__(profile, folder, maps_root)
        self.device = resolve_device(device)
        self.policy = policy(self.device)
        self._training_rounding = self.policy.rounding(profile.precision, training=True)

    def flow(self, kind: str, without: str | None = None, seed: int | None = None) -> Trained:
        """The profile's ``"note_flows"`` or ``"conditional_flow"``, from the folder or trained.

        It learns from the frames of all training pianos but the family of the piano `without`.  A training that
        was interrupted goes on where it was.
        """
        seed = self.profile.seed if seed is None else seed
        path = self.flow_path(kind, without, seed)
        if not path.exists():
            self._train(path, kind, without, seed)
        flow, history, provenance = files.load(path, self.device)
        return Trained(flow, history, provenance["seconds"])

    def _train(self, path, kind, without, seed):
        frames, recipe, rounding = self.frames(without), getattr(self.profile, kind), self._training_rounding
        validation = frames.validation(self.profile.training, seed)
        checkpoint = path.with_suffix(".training")
        sources = len(self.profile.pitches.numbers)
        trained = training.train(recipe, frames, validation, sources, seed, self.device, checkpoint, rounding)
        provenance = {
            "recipe": asdict(recipe), "frames": frames.content, "seed": seed, "seconds": trained.seconds,
            "device": self.policy.label(rounding), "ddslib": __version__, "torch": torch.__version__,
        }  # fmt: skip
        files.save(trained.flow, path, trained.history, provenance)
        checkpoint.unlink(missing_ok=True)

    def flow_path(self, kind: str, without: str | None, seed: int) -> Path:
        """Where that flow is kept."""
        split = (self.profile.training.split, self.profile.training.validation_share)
        recipe, frames = getattr(self.profile, kind), self.frames(without).content
        arithmetic = self.policy.arithmetic(self._training_rounding)
        name = digest(training.REVISION, recipe, split, self.profile.pitches, frames, seed, arithmetic)
        return self.folder / "flows" / f"{kind}-{name}.safetensors"

    def flow_size(self, kind: str) -> int:
        """How many numbers a flow of that kind learns."""
        sizes = self.profile.sizes(kind)
        with torch.device("meta"):  # where shapes are all there is
            return training.build(getattr(self.profile, kind), sizes.N, sizes.K, None).size()
