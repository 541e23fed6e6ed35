"""Lines that the chapters of several methods print, in the same words."""

from dataclasses import asdict

import pandas as pd
import torch
from torch.nn.functional import normalize

from .. import measures


def search(study):
    """How the search went."""
    result, step_size = study.result, study.settings.step_size
    distance = result.distance
    rise = (distance[1:] / distance[:-1]).max()
    print(
        f"{result.iterations} iterations of step size {step_size:g}; ended: {result.ended}\n"
        f"distance after the first iteration {distance[0]:.3g}, the smallest {distance.min():.3g}\n"
        f"largest rise from one iteration to the next: by a factor of {rise:.3g}\n"
        f"halvings of the step size: {int((result.step_size.diff() < 0).sum())}"
    )


def cosines(study, entries):
    """The median cosine between entries (N, K, C) of one note, by whether the note sounds; nothing where C is 1.

    All of them come back, (N, C (C - 1)), each pair twice; or None.
    """
    count, sounds = entries.shape[2], study.Y.any(dim=1)
    if count == 1:
        return None
    unit = normalize(entries, dim=1, eps=1e-9)
    values = (unit.mT @ unit)[:, ~torch.eye(count, dtype=torch.bool)]
    print("median cosine between entries of one note at the end (at the start it is 1):")
    print(f"  notes that sound somewhere {values[sounds].median():.3f}")
    if not sounds.all():
        print(f"  notes that never sound {values[~sounds].median():.3f}")
    return values


def codes(study, lengths, nats):
    """Medians by whether a note sounds, beside those of frames."""
    sounds = study.Y.any(dim=1)
    for name, (values, of_frames) in {"‖z‖": lengths, "log p, nats per dimension": nats}.items():
        silent = "" if sounds.all() else f", of notes that never sound {values[~sounds].median():.3g}"
        sounding = f"{name}: entries of sounding notes {values[sounds].median():.3g}"
        print(f"{sounding}{silent}, validation frames {of_frames.median():.3g}")
    print(f"√D: {study.flow.code_dimensions**0.5:.3g}")


def measured(study):
    """How good the decomposition is."""
    result = study.result
    A, Y, epsilon = result.A, study.Y, study.profile.evaluation.epsilon
    psa, ranked, error = quality(study.X, Y, result.X_hat, A).values()
    by_frame = measures.average_precision(A, Y, per_frame=True)
    print(
        f"PSA {psa:.3f}\naverage precision {ranked:.3f}, with frames scaled alike {by_frame:.3f}\n"
        f"sparsity at ε = {epsilon:g}: {measures.sparsity(A, epsilon):.3f}\nrelative error {error:.3f}"
    )


def quality(X, Y, X_hat, A):
    """What is asked of a brief search: how well A (N, T) tells the notes Y apart, and how near X̂ is to X."""
    return {
        "PSA": measures.precision_of_source_attribution(A, Y),
        "average precision": measures.average_precision(A, Y),
        "relative error": measures.relative_error(X, X_hat),
    }


def in_short(X, Y, X_hat, A):
    """The `quality` as text."""
    return ", ".join(f"{name} {value:.3f}" for name, value in quality(X, Y, X_hat, A).items())


def steps(searches, X, Y):
    """Where searches of the mixture X with the notes Y end, and what their steps have to do with it."""
    rows = {}
    for name, result in searches.items():
        psa, ranked, error = quality(X, Y, result.X_hat, result.A).values()
        size = result.step_size
        rows[name] = {
            "iterations": result.iterations, "first step": float(size[0]), "last step": float(size[-1]),
            "all steps": float(size.sum()), "largest H": float(result.H.max()),
            "error": error, "PSA": psa, "AP": ranked,
        }  # fmt: skip
    return pd.DataFrame(rows).T.map("{:.4g}".format)


def methods(study, *names):
    """A line of measures for every method on the study's chords; their rows, by method, come back."""
    workspace, chords = study.workspace, asdict(study.experiment)
    experiments = [workspace.experiment(**chords | {"method": name}) for name in names]
    rows = pd.DataFrame(map(workspace.evaluate, experiments), names)
    shown = ["psa", "average_precision", "average_precision_per_frame", "sparsity", "relative_error"]
    print(rows[shown].round(3).to_string())
    return rows


def pace(row):
    """How fast an experiment's search was."""
    return f"{1000 * row['seconds'] / row['iterations']:.0f} ms an iteration on {row['device']}"
