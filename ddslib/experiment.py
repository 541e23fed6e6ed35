"""The unit of every table: one configuration in, one row out.

A `Workspace` is a profile at work in a folder.  It makes what is asked for, corpus, frames, flows and
decompositions, and keeps it under the digest of all that it depends on; asked again, it reads it back.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from . import __version__, corpus, flows, metrics, training
from . import frames as frame_sets
from .artefacts import content_digest, digest, write_text, writing
from .config import Fit, FrontEnd, InputError, Instruments, Pitches, Profile, Rendering, Training
from .cuda import fits
from .decomposition import Decomposition, decompose
from .dictionaries import Dictionary, FrameDictionary, SampleDictionary, SharedDictionary
from .frames import Frames
from .maps import Recording, find_recordings
from .precision import FACTORS, pays, tensor_cores
from .spectrogram import Snippet, snippet
from .training import Trained

log = logging.getLogger(__name__)

REVISION = 6  # raise when the same configuration comes to yield other numbers
FLOWS = {"dds1": "note_flows", "dds2": "note_flows", "dds3": "conditional_flow"}  # the profile's flow for a method
METHODS = ("nmf", *FLOWS)


@dataclass(frozen=True)
class Experiment:
    """A method, and the mixture of random chords that it decomposes."""

    method: str
    instrument: str
    polyphony: int
    intensity: str
    chords: int
    root: str = ""  # a tree in MAPS's layout; empty for the workspace's own
    seed: int | None = None  # of the flow's training and of the start of H; None where nothing is drawn

    def __post_init__(self):
        if self.method not in METHODS:
            raise InputError(f"no method {self.method!r}; expected one of {', '.join(METHODS)}")


def resolve_device(name: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU; other names are torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class Workspace:
    """A profile, the folder that holds what is computed for it, and the data that it is computed from.

    `maps_root` names a tree in MAPS's layout; left empty, the corpus is rendered below `folder`.
    """

    def __init__(self, profile: Profile, folder: str | Path, maps_root: str | Path = "", device: str = "auto"):
        self.profile = profile
        self.folder = Path(folder)
        self.device = resolve_device(device)
        self._mixed = profile.precision == "mixed" and pays(self.device)  # in searches
        self._trains_mixed = self._mixed and self.device.type == "cuda"
        self.is_rendered = not str(maps_root)
        self.root = self.folder / "corpus" if self.is_rendered else Path(maps_root)

    @property
    def instruments(self) -> Instruments:
        return self.profile.rendered_instruments if self.is_rendered else self.profile.maps_instruments

    def experiment(self, method: str, **changes: Any) -> Experiment:
        """The profile's experiment for a method; `changes` that are None leave it as it is.  NMF has no seed."""
        usual = {
            "instrument": self.instruments.test[0],
            "polyphony": self.profile.evaluation.polyphony,
            "intensity": self.profile.evaluation.intensity,
            "chords": self.profile.evaluation.chords,
            "seed": self.profile.seed,
        }
        settings = usual | {k: v for k, v in changes.items() if v is not None}
        return Experiment(method, **settings | ({} if method in FLOWS else {"seed": None}))

    def render(self) -> None:
        """Render all of the corpus that the profile asks for; nothing to do with real MAPS."""
        if self.is_rendered:
            corpus.render(self.root, self.profile.rendering, self.profile.pitches)

    def _arithmetic(self, mixed: bool) -> str:
        """Results are the same, up to their last digits, where this is."""
        return f"{self.device.type}, mixed precision" if mixed else self.device.type

    def _device_name(self, mixed: bool) -> str:
        if self.device.type != "cuda":
            return self._arithmetic(mixed)
        return torch.cuda.get_device_name(self.device) + self._arithmetic(mixed).removeprefix("cuda")

    @property
    def _rendering(self) -> Rendering | None:
        return self.profile.rendering if self.is_rendered else None

    def notes(self, without: str | None = None) -> list[Recording]:
        """The isolated notes of all training pianos but the family of the piano `without`, by pitch."""
        instruments = self.instruments.training(without)
        return _notes(self.root, self._rendering, instruments, self.profile.training, self.profile.pitches)

    def frames(self, without: str | None = None) -> Frames:
        """The training frames of those notes; a process looks for them once."""
        profile, instruments = self.profile, self.instruments.training(without)
        parts = (profile.front_end, profile.training, profile.pitches)
        return _frames(self.folder / "frames", self.root, self._rendering, instruments, *parts)

    def recordings(self, experiment: Experiment) -> list[Recording]:
        """The chords that the experiment joins, the first by number; a process looks for them once.

        Raises `InputError` if the tree holds none of the kind, or fewer than asked for.
        """
        mixture = replace(experiment, method="nmf", seed=None, root="")  # the same chords for all
        if experiment.root:
            return list(_chords(Path(experiment.root), None, mixture, self.profile.pitches))
        return list(_chords(self.root, self._rendering, mixture, self.profile.pitches))

    def snippet(self, experiment: Experiment) -> Snippet:
        """The mixture that the experiment decomposes; a process prepares it once, and again if a file has changed."""
        recordings = self.recordings(experiment)
        return _snippet(tuple(recordings), _contents(recordings), self.profile.front_end, self.profile.pitches)

    def flow(self, kind: str, without: str | None = None, seed: int | None = None) -> Trained:
        """The profile's ``"note_flows"`` or ``"conditional_flow"``, from the folder or trained.

        It learns from the frames of all training pianos but the family of the piano `without`.  A training that
        was interrupted goes on where it was.
        """
        seed = self.profile.seed if seed is None else seed
        path = self.flow_path(kind, without, seed)
        if not path.exists():
            frames, recipe = self.frames(without), getattr(self.profile, kind)
            validation = frames.validation(self.profile.training, seed)
            checkpoint = path.with_suffix(".checkpoint")
            sources = len(self.profile.pitches.numbers)
            trained = training.train(
                recipe, frames, validation, sources, seed, self.device, checkpoint, self._trains_mixed
            )
            provenance = {
                "recipe": asdict(recipe), "frames": frames.content, "seed": seed, "seconds": trained.seconds,
                "device": self._device_name(self._trains_mixed), "ddslib": __version__, "torch": torch.__version__,
            }  # fmt: skip
            flows.save(trained.flow, path, trained.history, provenance)
            checkpoint.unlink(missing_ok=True)
        flow, history, provenance = flows.load(path, self.device)
        return Trained(flow, history, provenance["seconds"])

    def flow_path(self, kind: str, without: str | None, seed: int) -> Path:
        """Where that flow is kept."""
        split = (self.profile.training.split, self.profile.training.validation_share)
        recipe, frames = getattr(self.profile, kind), self.frames(without).content
        arithmetic = self._arithmetic(self._trains_mixed)
        name = digest(training.REVISION, recipe, split, self.profile.pitches, frames, seed, arithmetic)
        return self.folder / "flows" / f"{kind}-{name}.safetensors"

    def flows_of(self, experiment: Experiment) -> list[tuple[str, str | None, int]]:
        """Arguments of `flow` for the flow that the experiment decodes with; none for NMF."""
        if experiment.method not in FLOWS:
            return []
        return [(FLOWS[experiment.method], experiment.instrument, experiment.seed)]

    def comparison(self) -> list[Experiment]:
        """The experiments of the book's comparison: all methods on all test pianos.

        DDS-2 and DDS-3 have several seeds, DDS-1, the slowest, has one, and NMF draws nothing.
        """
        first = self.profile.seed
        seeds = range(first, first + self.profile.evaluation.seeds)
        return [
            self.experiment(method, instrument=instrument, seed=seed)
            for method in METHODS
            for instrument in self.instruments.test
            for seed in (seeds if method in ("dds2", "dds3") else [first])
        ]

    def dictionary(self, experiment: Experiment) -> Dictionary:
        """The method's dictionary.  A piano never explains itself: its own family is left out of training."""
        if experiment.method not in FLOWS:
            return self._samples(self.frames(without=experiment.instrument))
        fit = self.fit(experiment)
        (needed,) = self.flows_of(experiment)
        flow = self.flow(*needed).flow
        if self._mixed:
            flow.to_mixed_precision()
        if experiment.method == "dds1":
            return FrameDictionary(flow, self.snippet(experiment).X.shape[1], fit.log_determinant)
        return SharedDictionary(flow, fit.components, fit.log_determinant)

    def found_dictionary(self, experiment: Experiment) -> Dictionary:
        """The dictionary at the end of the experiment's search."""
        dictionary = self.dictionary(experiment)
        if experiment.method in FLOWS:
            dictionary.codes.copy_(self.decomposition(experiment).codes)
            dictionary.refresh()
        return dictionary

    def _samples(self, frames: Frames) -> SampleDictionary:
        sources = len(self.profile.pitches.numbers)
        resident = fits(frames.values.nbytes, self.device)
        factors = FACTORS[self.device.type] if self._mixed else None
        return SampleDictionary(frames.values, frames.sources, sources, self.device, resident, factors)

    def _parameters(self, experiment: Experiment) -> int:
        """How many numbers the method's dictionary is made of."""
        if experiment.method not in FLOWS:
            return self.frames(without=experiment.instrument).values.size
        (needed,) = self.flows_of(experiment)
        path = self.flow_path(*needed)
        return _flow_size(path) if path.exists() else self.flow(*needed).flow.size()

    def fit(self, experiment: Experiment) -> Fit:
        """The settings of the experiment's search."""
        return getattr(self.profile, experiment.method)

    def decomposition(self, experiment: Experiment) -> Decomposition:
        """The experiment's decomposition, from the folder or made anew."""
        path = self.fit_path(experiment)
        if not path.exists():
            X = self.snippet(experiment).X.to(self.device)
            dictionary, fit = self.dictionary(experiment), self.fit(experiment)
            with tensor_cores(self._mixed):
                result = decompose(X, dictionary, fit, generator=self._draws(experiment))
            _save(result, path, {"experiment": asdict(experiment), "fit": asdict(fit)})
        return _load(path, self.device)

    def fit_path(self, experiment: Experiment) -> Path:
        """Where the experiment's decomposition is kept."""
        return self.folder / "fits" / f"{self._digest(experiment)}.safetensors"

    def _draws(self, experiment: Experiment) -> torch.Generator | None:
        if experiment.seed is None:
            return None
        return torch.Generator(self.device).manual_seed(experiment.seed)

    def _digest(self, experiment: Experiment) -> str:
        mixture = _contents(self.recordings(experiment))
        if experiment.method in FLOWS:
            (needed,) = self.flows_of(experiment)
            source = self.flow_path(*needed).stem
        else:
            source = self.frames(without=experiment.instrument).content
        settings = (self.profile.front_end, self.profile.pitches, self.fit(experiment))
        return digest(
            REVISION, experiment.method, experiment.seed, settings, source, mixture, self._arithmetic(self._mixed)
        )

    def rehearsal(self, experiment: Experiment) -> Experiment:
        """The same experiment on the validation piano, for all that has to be chosen; chosen once for all seeds."""
        seed = None if experiment.seed is None else self.profile.seed
        return replace(experiment, instrument=self.instruments.validation, root="", seed=seed)

    def threshold(self, experiment: Experiment) -> float:
        """The best threshold on A for the experiment's rehearsal."""
        rehearsal = self.rehearsal(experiment)
        return metrics.best_threshold(self.decomposition(rehearsal).A, self.snippet(rehearsal).Y)

    def evaluate(self, experiment: Experiment) -> dict[str, Any]:
        """The experiment's row: its configuration, its measures and its cost.

        Precision, recall and F are None for the validation piano, on which their threshold is chosen, and
        where the profile does without a threshold.
        """
        path = self.row_path(experiment)
        if not path.exists():
            write_text(path, json.dumps(self._row(experiment), indent=1) + "\n")
        return json.loads(path.read_text())

    def row_path(self, experiment: Experiment) -> Path:
        """Where the experiment's row is kept."""
        rehearsal = self._digest(self.rehearsal(experiment)) if self.profile.evaluation.rehearse else None
        name = digest(self._digest(experiment), rehearsal, self.profile.evaluation.epsilon, self.profile.name)
        return self.folder / "rows" / f"{name}.json"

    def _judges(self, experiment: Experiment) -> bool:
        """Whether there is a threshold that was chosen on other chords."""
        return self.profile.evaluation.rehearse and experiment != self.rehearsal(experiment)

    def _detection(self, experiment: Experiment, A: Tensor, Y: Tensor) -> metrics.Detection:
        if not self._judges(experiment):
            return metrics.Detection(None, None, None)
        return metrics.precision_recall_f(A, Y, self.threshold(experiment))

    def bootstrap(self, experiments: Sequence[Experiment]) -> dict[str, np.ndarray]:
        """The measures of a row, (draws,) each, as they would be with other chords, and with other seeds.

        `experiments` have the same chords, and differ in their seeds.  Experiments on the same chords, on whatever
        piano, get the same draws, so that differences between them are not blurred by hard chords.
        """
        first = experiments[0]
        mixture = self.snippet(first)
        results = [self.decomposition(experiment) for experiment in experiments]
        activities = [(result.A, mixture.Y) for result in results]
        measures = {
            "psa": metrics.precision_of_source_attribution,
            "average_precision": metrics.average_precision,
            "sparsity": lambda A, _, weights: metrics.sparsity(A, self.profile.evaluation.epsilon, weights),
        }
        if self._judges(first):
            threshold = self.threshold(first)
            measures["f_measure"] = lambda A, Y, weights: metrics.precision_recall_f(A, Y, threshold, weights).f_measure
        names = [recording.name.removesuffix(recording.instrument) for recording in self.recordings(first)]
        chords = int(digest(names), 16)

        def draws(measure: Callable[..., np.ndarray], runs: Sequence[tuple]) -> np.ndarray:
            generator = np.random.default_rng(chords)
            return metrics.bootstrap(measure, runs, mixture.chord, generator, self.profile.evaluation.draws)

        found = {name: draws(measure, activities) for name, measure in measures.items()}
        return found | {
            "relative_error": draws(metrics.relative_error, [(mixture.X, result.X_hat) for result in results])
        }

    def _row(self, experiment: Experiment) -> dict[str, Any]:
        mixture = self.snippet(experiment)
        result = self.decomposition(experiment)
        fit = self.fit(experiment)
        A, Y = result.A, mixture.Y
        return {
            "profile": self.profile.name,
            "method": experiment.method,
            "instrument": experiment.instrument,
            "polyphony": experiment.polyphony,
            "intensity": experiment.intensity,
            "chords": experiment.chords,
            "frames": Y.shape[1],
            "bins": self.profile.front_end.bins,
            "components": getattr(fit, "components", None),
            "iterations": result.iterations,
            "likelihood_weight": fit.likelihood_weight,
            "positivity": fit.positivity,
            "mixing": "log magnitude",
            "sparsity_weight": fit.sparsity_weight,
            "start": getattr(fit, "start", None),
            "seed": experiment.seed,
            "psa": metrics.precision_of_source_attribution(A, Y),
            "frame_psa": metrics.frame_precision_of_source_attribution(A, Y).value,
            "sparsity": metrics.sparsity(A, self.profile.evaluation.epsilon),
            "average_precision": metrics.average_precision(A, Y),
            "average_precision_per_frame": metrics.average_precision(A, Y, per_frame=True),
            **self._detection(experiment, A, Y)._asdict(),
            "relative_error": metrics.relative_error(mixture.X, result.X_hat),
            "cost": float(result.cost.min()),
            "seconds": result.seconds,
            "parameters": self._parameters(experiment),
            "device": self._device_name(self._mixed),
            "version": __version__,
        }


def _notes(
    root: Path, rendering: Rendering | None, instruments: tuple[str, ...], training: Training, pitches: Pitches
) -> list[Recording]:
    if rendering:
        wanted = replace(rendering, isol_instruments=instruments, rand_instruments=(), styles=training.styles)
        corpus.render(root, wanted, pitches)
    return frame_sets.training_recordings(root, instruments, training, pitches)


@lru_cache(maxsize=32)  # a grid asks for the same again and again, and to look for files takes its time
def _frames(
    folder: Path,
    root: Path,
    rendering: Rendering | None,
    instruments: tuple[str, ...],
    front_end: FrontEnd,
    training: Training,
    pitches: Pitches,
) -> Frames:
    notes = _notes(root, rendering, instruments, training, pitches)
    return frame_sets.prepare(folder, root, notes, front_end, training, pitches)


@lru_cache(maxsize=256)
def _chords(root: Path, rendering: Rendering | None, mixture: Experiment, pitches: Pitches) -> tuple[Recording, ...]:
    instrument, cell = mixture.instrument, {"polyphony": mixture.polyphony, "intensity": mixture.intensity}
    if rendering:
        wanted = replace(
            rendering, isol_instruments=(), rand_instruments=(instrument,),
            polyphonies=(mixture.polyphony,), intensities=(mixture.intensity,), chords=mixture.chords,
        )  # fmt: skip
        corpus.render(root, wanted, pitches)
    found = find_recordings(root, set="RAND", instrument=instrument, **cell)
    inside = [r for r in found if pitches.lowest <= r.lowest and r.highest <= pitches.highest]
    chosen = sorted(inside, key=lambda recording: recording.number)[: mixture.chords]
    if len(chosen) < mixture.chords:
        raise InputError(
            f"{root}: {len(chosen)} chords of {instrument} P{mixture.polyphony} "
            f"{mixture.intensity} within M{pitches.lowest}-{pitches.highest}, expected {mixture.chords}"
        )
    return tuple(chosen)


def _contents(recordings: Iterable[Recording]) -> str:
    return content_digest(path for recording in recordings for path in (recording.path, recording.midi))


@lru_cache(maxsize=32)
def _flow_size(path: Path) -> int:
    """How many numbers were learnt; a process reads the file once."""
    flow, _, _ = flows.load(path)
    return flow.size()


@lru_cache(maxsize=32)
def _snippet(recordings: tuple[Recording, ...], contents: str, front_end: FrontEnd, pitches: Pitches) -> Snippet:
    """`contents` only tells the cache whether a file has changed."""
    return snippet(recordings, front_end, pitches)


def _save(result: Decomposition, path: Path, provenance: dict[str, Any]) -> None:
    # Clones, since columns of one tensor may not be saved as tensors of their own.
    values = {field.name: getattr(result, field.name) for field in fields(result)}
    tensors = {
        name: torch.as_tensor(value).cpu().clone(memory_format=torch.contiguous_format)
        for name, value in values.items()
        if value is not None
    }
    with writing(path) as target:
        save_file(tensors, target, metadata={"provenance": json.dumps(provenance), "version": __version__})


def _load(path: Path, device: torch.device) -> Decomposition:
    tensors = {"codes": None} | load_file(path)
    moved = {
        name: value.to(device)
        for name, value in tensors.items()
        if name in ("H", "A", "X_hat", "codes") and value is not None
    }
    return Decomposition(**tensors | moved | {"seconds": float(tensors["seconds"])})
