"""Rows: what every table is made of, one for each experiment, and the intervals of its measures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__, measures
from ..artefacts import digest, write_text
from .experiment import Experiment
from .searches import Searches

COLUMNS = """
profile method instrument polyphony intensity chords frames bins components iterations likelihood_weight positivity
mixing sparsity_weight start seed psa frame_psa sparsity average_precision average_precision_per_frame precision recall
f_measure relative_error cost seconds parameters device version ended attribution psa_of_squares exponent
colour_step_size
""".split()  # noqa: SIM905  of a row; None where a method has no such thing


class Rows(Searches):
    """The data, the flows, the searches, and the rows of experiments."""

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
        rehearsal = self.digest(self.rehearsal(experiment)) if self.profile.evaluation.rehearse else None
        attribution = self.settings(experiment.method).attribution
        name = digest(
            self.digest(experiment), rehearsal, self.profile.evaluation.epsilon, self.profile.name, attribution, COLUMNS
        )
        return self.folder / "rows" / f"{name}.json"

    def _threshold(self, experiment):
        """The threshold for the experiment's F, where there is one that was chosen on other chords."""
        judged = self.profile.evaluation.rehearse and experiment != self.rehearsal(experiment)
        return self.threshold(experiment) if judged else None

    def bootstrap(self, experiments: Sequence[Experiment]) -> dict[str, np.ndarray]:
        """The measures of a row, (draws,) each, as they would be with other chords, and with other seeds.

        `experiments` have the same chords, and differ in their seeds.  Experiments on the same chords, on whatever
        piano, get the same draws, so that differences between them are not blurred by hard chords.
        """
        first, evaluation = experiments[0], self.profile.evaluation
        mixture = self.mixture(first)
        runs = [self._found(experiment) for experiment in experiments]
        chords = int(digest([recording.name.removesuffix(first.instrument) for recording in mixture.recordings]), 16)
        return {
            name: measures.bootstrap(measure, runs, mixture.chord, np.random.default_rng(chords), evaluation.draws)
            for name, measure in self._measures(first, self._threshold(first)).items()
        }

    def _measures(self, experiment, threshold):
        """Every measure that has an interval, by its column: a function of `_found`, and of weights (..., T)."""
        mixture, epsilon = self.mixture(experiment), self.profile.evaluation.epsilon
        X, Y = mixture.X, mixture.Y
        ranked, detect = measures.average_precision, partial(measures.precision_recall_f, Y=Y, threshold=threshold)
        measured = {
            "psa": lambda A, _, weights=None: measures.precision_of_source_attribution(A, Y, weights),
            "average_precision": lambda A, _, weights=None: ranked(A, Y, weights=weights),
            "average_precision_per_frame": lambda A, _, weights=None: ranked(A, Y, per_frame=True, weights=weights),
            "sparsity": lambda A, _, weights=None: measures.sparsity(A, epsilon, weights),
            "f_measure": lambda A, _, weights=None: detect(measures.relative(A), weights=weights).f_measure,
            "relative_error": lambda _, X_hat, weights=None: measures.relative_error(X, X_hat, weights),
        }
        if threshold is None:
            del measured["f_measure"]
        return measured

    def _found(self, experiment):
        """What was attributed to sources (N, T), and X̂ (K, T)."""
        return self.attribution(experiment), self.decomposition(experiment).X_hat

    def _row(self, experiment):
        Y, found = self.mixture(experiment).Y, self.decomposition(experiment)
        settings, threshold = self.settings(experiment.method), self._threshold(experiment)
        A, X_hat = self._found(experiment)
        values = asdict(settings) | asdict(experiment)
        values |= {name: measure(A, X_hat) for name, measure in self._measures(experiment, threshold).items()}
        if threshold is not None:
            values |= measures.precision_recall_f(measures.relative(A), Y, threshold)._asdict()
        values |= {
            "profile": self.profile.name,
            "frames": Y.shape[1],
            "bins": self.profile.front_end.bins,
            "iterations": found.iterations,
            "psa_of_squares": measures.precision_of_source_attribution(A.double() ** 2, Y),
            "frame_psa": measures.frame_precision_of_source_attribution(A, Y),
            "cost": float(found.cost.min()),
            "seconds": found.seconds,
            "ended": found.ended,
            "parameters": self.parameters(experiment),
            "device": self.policy.label(self._rounding),
            "version": __version__,
        }
        return {column: values.get(column) for column in COLUMNS}
