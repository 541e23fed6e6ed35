"""Decompositions: from the folder, or searched with a method's dictionary."""

import json
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__, measures
from ..artefacts import digest, writing
from ..config import validated
from ..methods.method import Materials
from ..methods.registry import find, settings
from ..search.dictionary import Dictionary
from ..search.search import Decomposition, decompose
from ..search.settings import Fit
from .data import contents, given
from .experiment import Experiment
from .trainings import Trainings

REVISION = 8  # raise when the same configuration comes to yield other numbers


class NeededFlow(NamedTuple):
    """Arguments of `Trainings.flow`."""

    kind: str
    without: str
    seed: int


class Searches(Trainings):
    """The data, the flows, and the searches of experiments.  Raises `InputError` for a section that no method knows."""

    def __init__(self, profile, folder, maps_root="", device="auto"):
        super().__init__(profile, folder, maps_root, device)
        self._rounding = self.policy.rounding(profile.precision)
        for method in profile.methods:
            self.settings(method)

    def settings(self, method: str) -> Fit:
        """What the profile says of a method's searches."""
        return settings(self.profile, method)

    def experiment(self, method: str, **changes: Any) -> Experiment:
        """The profile's experiment for a method; `changes` that are None leave it as it is.

        Without a flow nothing is drawn, so there is no seed.  Raises `InputError` naming a value that cannot be.
        """
        asked = self._usual_chords() | {"seed": self.profile.seed} | given(changes) | {"method": method}
        return validated(Experiment, asked | ({} if find(method).flow else {"seed": None}), "experiment")

    def flow_of(self, experiment: Experiment) -> NeededFlow | None:
        """The flow that the experiment decodes with.  A piano never explains itself: its own family is left out."""
        kind = find(experiment.method).flow
        return kind and NeededFlow(kind, experiment.instrument, experiment.seed)

    def dictionary(self, experiment: Experiment) -> Dictionary:
        """The method's dictionary.  A piano never explains itself: its own family is left out of training."""
        materials = Materials(
            n_sources=len(self.profile.pitches.numbers),
            frames=self.mixture(experiment).X.shape[1],
            stored=partial(self.frames, without=experiment.instrument),
            flow=lambda: self.flow(*self.flow_of(experiment)).flow.freeze(self._rounding),
            policy=self.policy,
            rounding=self._rounding,
            gamma=self.profile.front_end.gamma,
        )
        return find(experiment.method).dictionary(materials, self.settings(experiment.method))

    def found_dictionary(self, experiment: Experiment) -> Dictionary:
        """The dictionary at the end of the experiment's search."""
        dictionary = self.dictionary(experiment)
        found = self.decomposition(experiment)
        for variable, value in ((dictionary.codes, found.codes), (dictionary.colour, found.colour)):
            if variable is not None:
                variable.copy_(value)
        dictionary.refresh()
        return dictionary

    def parameters(self, experiment: Experiment) -> int:
        """How many numbers the method's dictionary is made of."""
        method = find(experiment.method)
        if method.flow:
            return self.flow_size(method.flow)
        stored = len(self.frames(without=experiment.instrument).values)
        return method.work.stored(method.sizes(self.profile, self.settings(method.name), T=1, M=stored))

    def decomposition(self, experiment: Experiment) -> Decomposition:
        """The experiment's decomposition, from the folder or made anew."""
        path = self.fit_path(experiment)
        if not path.exists():
            X = self.mixture(experiment).X.to(self.device)
            dictionary, fit = self.dictionary(experiment), self.settings(experiment.method)
            draws = torch.Generator(self.device).manual_seed(experiment.seed or 0)  # without a seed nothing is drawn
            with self._rounding.applied():
                result = decompose(X, dictionary, fit, generator=draws)
            _save(result, path, {"experiment": asdict(experiment), "fit": asdict(fit)})
        return _load(path, self.device)

    def fit_path(self, experiment: Experiment) -> Path:
        """Where the experiment's decomposition is kept."""
        return self.folder / "fits" / f"{self.digest(experiment)}.safetensors"

    def digest(self, experiment: Experiment) -> str:
        """Of all that the experiment's decomposition depends on."""
        mixture, needed = contents(self.recordings(experiment)), self.flow_of(experiment)
        source = self.flow_path(*needed).stem if needed else self.frames(without=experiment.instrument).content
        fit = replace(self.settings(experiment.method), attribution="activity")  # both are kept
        settings = (self.profile.front_end, self.profile.pitches, fit)
        arithmetic = self.policy.arithmetic(self._rounding)
        return digest(REVISION, experiment.method, experiment.seed, settings, source, mixture, arithmetic)

    def rehearsal(self, experiment: Experiment) -> Experiment:
        """The same experiment on the validation piano, for all that has to be chosen; chosen once for all seeds."""
        seed = None if experiment.seed is None else self.profile.seed
        return replace(experiment, instrument=self.instruments.validation, root="", seed=seed)

    def threshold(self, experiment: Experiment) -> float:
        """The best threshold on what is attributed, over its mean in a frame, for the experiment's rehearsal."""
        rehearsal = self.rehearsal(experiment)
        return measures.best_threshold(measures.relative(self.attribution(rehearsal)), self.mixture(rehearsal).Y)

    def attribution(self, experiment: Experiment) -> Tensor:
        """What the method attributes to sources (N, T): activity or evidence, as its section says."""
        return self.decomposition(experiment).attribution(self.settings(experiment.method).attribution)


def _save(result, path, provenance):
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    description = {"provenance": json.dumps(provenance), "version": __version__, "ended": values.pop("ended")}
    # Clones, since columns of one tensor may not be saved as tensors of their own.
    tensors = {
        name: torch.as_tensor(value).cpu().clone(memory_format=torch.contiguous_format)
        for name, value in values.items()
        if value is not None
    }
    with writing(path) as target:
        save_file(tensors, target, metadata=description)


def _load(path, device):
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        ended = file.metadata()["ended"]
    moved = {name: tensors[name].to(device) for name in ("H", "A", "E", "X_hat", "codes", "colour") if name in tensors}
    described = {"seconds": float(tensors["seconds"]), "ended": ended}
    return Decomposition(**{"codes": None, "colour": None} | tensors | moved | described)
