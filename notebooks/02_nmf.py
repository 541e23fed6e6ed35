# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The over-complete baseline: NMF
#
# **The question.** How well are the chords of an unknown piano explained by stored spectra of other pianos?
#
# **You need:** $\mathbf{X}$ and $\mathbf{Y}$ from {doc}`01_spectrograms`. **You will see:** non-negative matrix
# factorisation with a dictionary that is fixed and far larger than needed, how it is fitted, and the measures
# by which all methods of this book are compared.

# %% tags=["parameters"]
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"nmf.iterations": 100}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
test_root = ""  # another tree in MAPS's layout to take the chords from
instrument = None  # of the chords; None leaves these four to the profile
polyphony = None
intensity = None
chords = None

# %% tags=["hide-input"]
from dataclasses import replace

from ddslib import measures
from ddslib.pages import figures, plots, reports
from ddslib.pages.chapter import open_study
from ddslib.pages.players import players
from ddslib.recordings.audio import read_audio
from ddslib.search.search import decompose
from ddslib.search.stored import SampleDictionary

import numpy as np
import pandas as pd
import torch

study = open_study("nmf", globals())
workspace, fit = study.workspace, study.settings
print(study.title)

# %% [markdown]
# ## The dictionary: everything that was heard
#
# NMF {cite}`leeseung1999` explains a spectrogram as a product of two matrices without negative entries:
#
# $$ \mathbf{X} \approx \mathbf{W} \mathbf{H}, \qquad \mathbf{W} \ge 0, \quad \mathbf{H} \ge 0 $$
#
# A column of $\mathbf{W}$ is a *dictionary entry*: a spectrum. A row of $\mathbf{H}$ says how strong that entry is in
# each frame. Usually both are searched for. Here $\mathbf{W}$ is given: its columns are *all* stored frames of the
# isolated notes of the training pianos. Each entry therefore belongs to a known note, its *source*.

# %%
frames = workspace.frames(without=study.experiment.instrument)  # none of its family
M, K = frames.values.shape
N = len(study.pitches.numbers)
print(f"M = {M} entries of K = {K} bins, for N = {N} notes: about {M // N} for each")
print(f"one in {study.profile.training.thin} frames is stored")
assert set(frames.sources) == set(range(N))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The dictionary W: 600 of its entries, drawn at random and sorted by pitch. Partials rise from left to right; within a note, entries differ by piano, loudness and age of the sound.", "name": "fig-dictionary"}, "image": {"alt": "An image of spectra side by side, sorted by pitch: bright lines, the partials, rise from the lower left to the upper right."}}
shown = np.sort(np.random.default_rng(0).choice(M, 600, replace=False))
W = frames.values[shown].T
with plots.shown(9, 3.4) as ax:
    plots.dictionary(ax, W, frames.sources[shown], study.front_end, study.pitches)

# %% [markdown]
# ## The mixture to explain
#
# Chords of a piano that is not in the dictionary are joined to one mixture. Frames in which no key is down are left
# out, here as in the dictionary.

# %%
X, Y, mixture = study.X, study.Y, study.mixture
print(f"X has {X.shape[0]} bins × {X.shape[1]} frames")
print(f"{Y.sum(0).float().mean():.2f} notes sound in a frame")
rate = study.front_end.sample_rate
sounds = [read_audio(chord.path, rate) for chord in mixture.recordings[:4]]
players({"the first four chords": np.concatenate(sounds)}, rate)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mixture: its log-magnitude spectrogram X and its piano roll Y.", "name": "fig-mixture"}, "image": {"alt": "Above, a spectrogram of chords joined to a few seconds; below, the piano roll of the same frames with the notes of each chord as short bars."}}
figures.mixture(study)

# %% [markdown]
# ## The search
#
# We look for the activations that bring $\mathbf{W}\mathbf{H}$ as close to $\mathbf{X}$ as possible:
#
# $$ J(\mathbf{H}) = \lVert \mathbf{X} - \mathbf{W}\mathbf{H} \rVert_F, \qquad
#    \frac{\partial J}{\partial \mathbf{H}} = \mathbf{W}^\top \frac{\mathbf{W}\mathbf{H} - \mathbf{X}}{J} $$
#
# The norm is not squared. Its gradient is the direction of the residual, seen through the dictionary. Here are
# three iterations by hand, on the first chord. Every iteration is a step of the optimiser Adam {cite}`kingma2015`. Then
# whatever became negative is set to zero.

# %%
W = torch.from_numpy(frames.values).T
first = X[:, mixture.chord == 0]
H = torch.full((M, first.shape[1]), 1 / M)
print(f"cost J at the start: {float((first - W @ H).norm()):.3g}")
adam = torch.optim.Adam([H], lr=fit.step_size)
by_hand = []
for _ in range(3):
    residual = W @ H - first
    H.grad = W.T @ residual / residual.norm()
    adam.step()
    H.clamp_(min=0)
    by_hand.append(float((first - W @ H).norm()))
print("after one, two and three iterations:", ", ".join(f"{J:.3g}" for J in by_hand))

# %% [markdown]
# The library has one function for this, `decompose`. It is the same for all methods. What differs is the dictionary
# that it is given; in one row of {doc}`08_comparison`, which is not the paper's, the cost differs, too.

# %%
dictionary = SampleDictionary(frames.values, frames.sources, N)
by_library = decompose(first, dictionary, replace(fit, iterations=3))
assert np.allclose(by_library.cost, by_hand, rtol=1e-4)

# %% [markdown]
# Now the whole mixture, for as long as the profile says. The search returns its iterate of lowest cost, which for NMF is
# seldom far from the last. The workspace keeps the result, so that a second run of this chapter only reads it back.

# %%
result = study.result
print(f"lowest cost J in {result.iterations} iterations: {result.cost.min():.3g}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration. The first step moves all entries at once and overshoots the start by far; then the cost falls.", "name": "fig-nmf-cost"}, "image": {"alt": "A curve on logarithmic axes: the cost starts very high and falls by more than two orders of magnitude, ever more slowly."}}
figures.cost(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mixture, what the dictionary makes of it, and the difference: blue is missing, red is too much.", "name": "fig-nmf-fit"}, "image": {"alt": "Three spectrograms: the mixture, its reconstruction, which looks much like it but smoother, and their difference, thin blue and red streaks along partials."}}
figures.fit(study)

# %%
error = (X - result.X_hat).norm() / X.norm()
assert np.isclose(error, measures.relative_error(X, result.X_hat), rtol=1e-5)
print(f"relative error ‖X − WH‖ / ‖X‖: {error:.3f}")

# %% [markdown]
# ## From components to notes
#
# $\mathbf{H}$ has a row for each of the thousands of entries. Two steps turn it into one row for each note. An entry
# with a large norm needs a small activation, so each activation is first multiplied by its entry's norm. Then the
# entries of a note are summed:
#
# $$ A_{nt} = \sum_{j \in n} \lVert \mathbf{w}_j \rVert \, H_{jt} $$

# %%
H, source = result.H, torch.from_numpy(frames.sources)
A = torch.zeros(N, X.shape[1]).index_add_(0, source, W.norm(dim=0)[:, None] * H)
assert torch.allclose(A, result.A, rtol=1e-3, atol=1e-5)
print(f"entries that are ever active: {(H.amax(dim=1) > 1e-3).sum()} of {M}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Activations before and after aggregation. Above: H, the strongest of every handful of neighbouring entries. Below: A, one row a note.", "name": "fig-nmf-h"}, "image": {"alt": "Two images over time. The upper has hundreds of rows of scattered short dashes; in the lower the dashes are gathered in one row for each note, and the notes of each chord stand out as bars."}}
figures.components(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll. Teal: activity on notes that sound. Red: on notes that do not. The yellower a sounding note, the less it gets. Strength is the square root of the activity, so that weak errors show.", "name": "fig-nmf-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are teal to olive, and pale red cells are spread over many other notes."}}
figures.attribution(study)

# %% [markdown]
# ## How good is it?
#
# **Precision of source attribution**, the paper's measure, is the share of all activity that lies on notes that
# really sound:
#
# $$ \mathrm{PSA} = \frac{\sum_{nt} A_{nt} Y_{nt}}{\sum_{nt} A_{nt}} $$

# %%
psa = (A * Y).sum() / A.sum()
assert np.isclose(psa, measures.precision_of_source_attribution(A, Y), rtol=1e-5)
chance = Y.float().mean()
print(f"PSA {psa:.3f}; spread evenly over all notes it would be {chance:.3f}")
assert psa > chance

# %% [markdown]
# **Sparsity** is the share of cells of $\mathbf{A}$ that are nearly zero. What "nearly" means is a number
# $\varepsilon$ that we could not find in the paper. So we show the curve, and mark the value that our tables use.

# %%
epsilon = study.profile.evaluation.epsilon
sparsity = (A <= epsilon).double().mean()
assert np.isclose(sparsity, measures.sparsity(A, epsilon))
print(
    f"sparsity at ε = {epsilon:g}: {sparsity:.3f}\nsparsity of Y itself: {1 - chance:.3f}"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-nmf-sparsity"}, "image": {"alt": "A rising curve of the share of nearly silent cells over epsilon on a logarithmic axis, below a dotted line near one."}}
figures.sparsity(study)

# %% [markdown]
# **What PSA does not see.** It asks only whether the activity that is there is right, never whether something is
# missing: all activity on a single right note would score 1. So we also rank all cells of $\mathbf{A}$ by activity,
# and measure how well sounding cells come before silent ones. That is the *average precision*. It may be taken over
# all cells as they are, or with every frame divided by its sum, so that loud frames do not count for more.

# %%
ranked = measures.average_precision(A, Y)
ranked_by_frame = measures.average_precision(A, Y, per_frame=True)
print(f"average precision {ranked:.3f}; with frames scaled alike {ranked_by_frame:.3f}")
assert ranked > psa

# %% [markdown]
# Last, a threshold turns activities into a transcription. It must not be chosen on the mixtures that are reported. So
# it is chosen on chords of a *training* piano, with that piano's whole family taken out of the dictionary, and used
# here as it is.

# %%
row = workspace.evaluate(study.experiment)
piano = workspace.rehearsal(study.experiment).instrument
print(f"threshold {workspace.threshold(study.experiment):.3g}, chosen on {piano}")

# %% [markdown]
# All of it in one row. The comparison of the methods is made of such rows. `frame_psa` is the mean of every frame's own
# PSA. Precision, recall and their harmonic mean, F, count cells at or above the threshold as notes; so that it means the same
# for soft and loud recordings, activity is taken over its mean sum in a frame. `psa_of_squares` is the PSA of squared activity;
# {doc}`08_comparison` tells why it is there.

# %% tags=["hide-input"]
elsewhere = """
seconds device version parameters cost positivity mixing likelihood_weight sparsity_weight
attribution exponent colour_step_size
"""
table = pd.Series(row).drop(elsewhere.split()).dropna()
print(table.map(lambda v: f"{v:.3f}" if isinstance(v, float) else v).to_string())

# %% tags=["nbval-ignore-output"]
print(f"{reports.pace(row)}\n{row['parameters'] / 1e6:.1f} million numbers in W")

# %% [markdown]
# ## What was learnt
#
# * Stored spectra of other pianos explain an unknown one, but only roughly. The entries do not fit exactly, and log
#   magnitudes do not add up.
# * Sounding notes mostly rank before silent ones: the average precision is high. But much of the activity is spread
#   over silent notes: the PSA is far lower.
# * The work grows with the number of stored frames, $M$.
#
# **Next:** a dictionary whose entries can *change* to fit the unknown piano, without turning into something that no
# piano would play. That is Differentiable Dictionary Search.
