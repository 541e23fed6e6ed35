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
# # DDS-3: one conditional flow
#
# **The question.** Does a dictionary attribute better if one flow, which has heard all notes, generates it?
#
# **You need:** {doc}`05_dds2` and the flow of {doc}`06_conditional_flow`. **You will see:** the same search with a
# part of the latent vector fixed: the part that says which note it is. Then a closer look at two choices that are
# easily overlooked: how activations are kept positive, and how much the likelihood weighs.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"dds3.components": 3}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
test_root = ""  # another tree in MAPS's layout to take the chords from
instrument = None  # of the chords; None leaves these four to the profile
polyphony = None
intensity = None
chords = None
seed = None  # of the flows' training and of the start of H; None is the profile's

# %%
import math
from dataclasses import replace

import librosa
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from ddslib import metrics, plots
from ddslib.config import load_profile
from ddslib.decomposition import Decomposition
from ddslib.dictionaries import SharedDictionary
from ddslib.experiment import Workspace

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
cell = {
    "root": test_root,
    "instrument": instrument,
    "polyphony": polyphony,
    "intensity": intensity,
    "chords": chords,
    "seed": seed,
}
experiment = workspace.experiment("dds3", **cell)
front_end, pitches, fit = profile.front_end, profile.pitches, profile.dds3
mixture = workspace.snippet(experiment)
X, Y = mixture.X, mixture.Y
flow = workspace.flow("conditional_flow", experiment.instrument, experiment.seed).flow
N, C, (K, T) = len(pitches.numbers), fit.components, X.shape
D = flow.code_dimensions
print(f"{experiment.chords} chords of {experiment.instrument}, ", end="")
print(f"P{experiment.polyphony}, {experiment.intensity}: {K} bins × {T} frames")
print(f"C = {C} entries for each of N = {N} notes; codes of D = K − N = {D} numbers")


# %%
def draws() -> torch.Generator:
    """The random numbers that a search starts from, the same at every call."""
    return torch.Generator(workspace.device).manual_seed(0)


# %% [markdown]
# ## The formula
#
# The conditional flow is one function $g$ for all notes. Its latent vector has a *semantic* part of $N$ numbers,
# which is near the one-hot vector $\mathbf{e}_n$ for note $n$, and a *nuisance* part of $K - N$ numbers for all that
# is not the note. The search holds the first at the one-hot vector, and moves only the second:
#
# $$ \hat{\mathbf{X}} = \mathbf{W}(\mathbf{Z})\, \mathbf{H}, \qquad
#    \mathbf{w}_{nc} = \max\bigl(0,\, g([\mathbf{e}_n, \mathbf{z}_{nc}])\bigr) $$
#
# By hand, for the first chord, with all codes at zero:

# %%
first = X[:, mixture.chord == 0].to(workspace.device)
frames = first.shape[1]
one_hot = torch.eye(N, device=workspace.device).repeat_interleave(C, dim=0)
codes = torch.zeros(N * C, D, device=workspace.device)
with torch.no_grad():
    W = flow.inverse(torch.cat([one_hot, codes], dim=1)).clamp(min=0).T
H = torch.rand(N * C, frames, generator=draws(), device=workspace.device)
X_hat = W @ H
print(
    f"W: {W.shape[0]} bins × {W.shape[1]} entries, H: {H.shape[0]} entries × {H.shape[1]} frames"
)

dictionary = SharedDictionary(flow, C)
dictionary.refresh()
assert dictionary.codes.shape == (N, C, D)
assert torch.allclose(X_hat, dictionary.mix(H), rtol=1e-3, atol=1e-3)

# %% [markdown]
# The cost, the shares and the start of $\mathbf{H}$ are those of {doc}`05_dds2`, and so is the class in the library.
# The likelihood is that of the nuisance code, over $D = K - N$ dimensions.

# %%
share = (H / (H.sum(dim=0) + 1e-3)).sum(dim=1)
surprise = codes.square().sum(dim=1) / (2 * D) + math.log(2 * math.pi) / 2
assert torch.allclose((share * surprise).sum(), dictionary.penalty(H).value, rtol=1e-4)
uniform = torch.rand(N * C, frames, generator=draws(), device=workspace.device)
H_start = uniform * (first.mean() / (N * C)).sqrt()
assert torch.allclose(H_start, dictionary.start(first, draws()))

# %% [markdown]
# **Does an entry stay with its note?** The flow is a bijection. Whatever the nuisance code, running the entry
# forwards gives back the one-hot vector, up to rounding. We try codes as long as those of real frames may be:

# %%
far = torch.randn(N, C, D, generator=draws(), device=workspace.device)


@torch.no_grad()
def semantic_part(spectra: torch.Tensor) -> torch.Tensor:
    """What the flow says about the note of spectra (N, C, K): (N, C, N)."""
    return flow.split(flow(spectra.flatten(0, 1))[0])[0].unflatten(0, (N, C))


with torch.no_grad():
    decoded = flow.decode(far)
wanted = torch.eye(N, device=workspace.device)[:, None].expand(-1, C, -1)
error = (semantic_part(decoded) - wanted).abs().max()
print(f"largest deviation from the one-hot vector: {error:.1e}")
assert error < 0.05

# %% [markdown]
# So the note of an entry never changes, *as the flow sees it*. That is a weaker promise than it sounds. The entry
# that is used is the positive part, and the flow may see another note in it. And the flow knows notes only from
# frames like those it was trained on.

# %%
name_found = semantic_part(decoded.clamp(min=0)).argmax(dim=2)
own = torch.arange(N, device=workspace.device)[:, None]
print(
    f"positive parts in which the flow sees the same note: {(name_found == own).float().mean():.3f}"
)

# %% [markdown]
# ## The search

# %%
result = workspace.decomposition(experiment)
distance = result.distance
print(f"{result.iterations} iterations of step size {fit.step_size:g}")
print(
    f"distance after the first iteration {distance[0]:.3g}, the smallest {distance.min():.3g}"
)
rise = distance[1:] / distance[:-1]
print(f"largest rise from one iteration to the next: by a factor of {rise.max():.3g}")
print(f"halvings of the step size: {int((result.step_size.diff() < 0).sum())}")
assert distance.min() < 0.7 * distance[0]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it.", "name": "fig-dds3-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes that fall by a factor of three to four over the iterations."}}
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.cost_history(ax, result.cost, label="cost J")
plots.cost_history(ax, distance, label="distance ‖X − X̂‖")
ax.lines[1].set_linestyle("--")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The dictionary before and after

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The C entries of every note, scaled to norm 1. Left: at the start, where those of a note are equal. Right: at the end.", "name": "fig-dds3-dictionary"}, "image": {"alt": "Two images of spectra sorted by pitch. Left, clean partials in steps, one step a note. Right, the same partials with differences between the entries of a step, some of them broad or noisy."}}
start = workspace.dictionary(experiment)
start.refresh()
found = workspace.found_dictionary(experiment)
before = torch.stack([start.entries(n) for n in range(N)]).cpu()
after = torch.stack([found.entries(n) for n in range(N)]).cpu()
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for ax, W, name in ((axes[0], before, "before"), (axes[1], after, "after")):
    scaled = W / W.norm(dim=1, keepdim=True).clamp(min=1e-9)
    columns = scaled.transpose(1, 2).flatten(0, 1).T
    plots.dictionary(ax, columns, np.repeat(np.arange(N), C), front_end, pitches)
    ax.set_title(name)
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# How different have the entries of a note become? The cosine between two of them is 1 for the same shape, and 0 for
# spectra without a common partial.

# %%
sounds = Y.any(dim=1)
unit = after / after.norm(dim=1, keepdim=True).clamp(min=1e-9)
cosine = unit.transpose(1, 2) @ unit  # (N, C, C)
pairs = ~torch.eye(C, dtype=torch.bool)
if C > 1:
    print("median cosine between entries of one note at the end (at the start it is 1):")
    print(f"  notes that sound somewhere {cosine[sounds][:, pairs].median():.3f}")
    if not sounds.all():
        print(f"  notes that never sound {cosine[~sounds][:, pairs].median():.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The most active note. Above: its mode, its entries and a frame of the held-out piano, each scaled to a maximum of 1; dotted lines mark its partials. Below: how active each entry is. The grey background marks where the note sounds.", "name": "fig-dds3-note"}, "image": {"alt": "Above, spectra of one note over frequency: the mode, several thin curves of the entries that were found and a frame, all with peaks at the dotted lines. Below, the activity of each entry over time as lines, high where the background is grey."}}
A = result.A.cpu()
H = result.H.cpu().unflatten(0, (N, C))
note = int((A * Y).sum(dim=1).argmax())
t = int((A[note] * Y[note]).argmax())
figure, axes = plt.subplots(2, 1, figsize=(9, 6))
for name, values, colour in (
    ("frame of X", X[:, t], plots.INK),
    ("mode", before[note, :, 0], plots.WRONG),
):
    plots.spectrum(axes[0], values / values.max(), front_end, name, color=colour)
colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, C))
for c in range(C):
    values, style = after[note, :, c], {"color": colours[c], "linewidth": 0.8}
    scaled = values / values.max().clamp(min=1e-9)
    plots.spectrum(axes[0], scaled, front_end, f"entry {c + 1}", **style)
    strength = after[note, :, c].norm() * H[note, c]
    axes[1].plot(
        np.arange(T) * front_end.hop / front_end.sample_rate, strength, color=colours[c]
    )
fundamental = librosa.midi_to_hz(pitches.numbers[note]) / 1000
for partial in np.arange(fundamental, axes[0].get_xlim()[1], fundamental):
    axes[0].axvline(partial, color=plots.INK, linestyle=":", linewidth=0.6, zorder=0)
seconds = np.arange(T) * front_end.hop / front_end.sample_rate
axes[1].fill_between(
    seconds, 0, 1, where=Y[note].numpy(), step="mid", transform=axes[1].get_xaxis_transform(),
    color="0.9", zorder=0,
)  # fmt: skip
axes[1].set(xlabel="time (s)", ylabel="activity ‖w‖ H")
axes[1].margins(x=0)
axes[0].set(ylabel="relative to the maximum")
axes[0].set_title(librosa.midi_to_note(pitches.numbers[note]))
axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()

# %% [markdown]
# ## What the codes did
#
# Again we compare with the latents of validation frames: with the nuisance part of them, since that is what a code
# is.

# %%
codes = result.codes.cpu()
length = codes.norm(dim=2)
training_frames = workspace.frames(without=experiment.instrument)
held_out = training_frames.validation(profile.training, experiment.seed)


def validation_frames(source: int, count: int = 40) -> torch.Tensor:
    """Some frames (at most count, K) of a source that no flow was trained on."""
    rows = np.flatnonzero(held_out & (training_frames.sources == source))
    few = rows[:: -(-len(rows) // count)]
    return torch.from_numpy(training_frames.values[few]).to(workspace.device)


latents, nats_of_frames = [], []
with torch.no_grad():
    for n in range(N):
        frames_of_note = validation_frames(n)
        source = torch.full((len(frames_of_note),), n, device=workspace.device)
        nuisance = flow.split(flow(frames_of_note)[0])[1]
        latents.append(nuisance.norm(dim=1).median().cpu())
        nats_of_frames.append(flow.log_prob(frames_of_note, source).median().cpu() / K)
    spectra = flow.decode(result.codes).flatten(0, 1)
    source = torch.arange(N, device=workspace.device).repeat_interleave(C)
    nats = flow.log_prob(spectra, source).unflatten(0, (N, C)).cpu() / K
typical, nats_of_frames = torch.stack(latents), torch.stack(nats_of_frames)
for name, values, real in (
    ("‖z‖", length, typical),
    ("log p, nats per dimension", nats, nats_of_frames),
):
    print(f"{name}: entries of sounding notes {values[sounds].median():.3g}", end="")
    if not sounds.all():
        print(f", of notes that never sound {values[~sounds].median():.3g}", end="")
    print(f", validation frames {real.median():.3g}")
print(f"√D: {math.sqrt(D):.3g}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each entry. Left: distance of its code from the mode. Right: its log-likelihood. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds3-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes, below the dashed line of the square root of D, beside the black bars of real frames. Right, the log-likelihoods of the entries, beside the black bars of real frames."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
plots.by_source(axes[0], length, sounds, pitches, "distance from the mode ‖z‖")
plots.by_source(axes[1], nats, sounds, pitches, "log p (nats per dimension)")
for ax, bars in zip(axes, (typical, nats_of_frames), strict=True):
    ax.plot(pitches.numbers, bars, "_", color=plots.INK, label="validation frames")
axes[0].axhline(math.sqrt(D), color=plots.INK, linestyle="--", linewidth=0.8)
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The likelihood of an entry is conditional on its note, $\log p(\mathbf{x} \mid n)$, and so is that of the frames. An
# entry has its semantic part exactly at the one-hot vector, and a frame only nearly.
#
# ## Activations and reconstruction
#
# The $C$ rows of a note are summed, each with the norm of its entry:
#
# $$ A_{nt} = \sum_{c} \lVert \mathbf{w}_{nc} \rVert \, H_{nc,t} $$

# %%
summed = (after.norm(dim=1)[:, :, None] * H).sum(dim=1)
assert torch.allclose(summed, A, rtol=1e-3, atol=1e-4)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll.", "name": "fig-dds3-activations"}, "image": {"alt": "Above, an image of activations over time and pitch in which the notes of the chords stand out as bars; below, the piano roll with the same bars."}}
figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
plots.activations(axes[0], A, front_end, pitches)
plots.piano_roll(axes[1], Y, front_end, pitches)
axes[0].label_outer()
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds3-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are teal, and several turn yellow before they end; patches of pale red on other notes, and much white between them."}}
figure, ax = plt.subplots(figsize=(9, 3.6))
plots.attribution(ax, A, Y, front_end, pitches)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The snippet, what DDS-3 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds3-fit"}, "image": {"alt": "Three spectrograms: the snippet, its reconstruction, which looks much like it, and their difference: faint streaks, and a few strong blue bars where the reconstruction is empty before a chord ends."}}
X_hat = result.X_hat.cpu()
figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True)
plots.spectrogram(axes[0], X, front_end, label="X", vmin=0, vmax=0.8)
plots.spectrogram(axes[1], X_hat, front_end, label="WH", vmin=0, vmax=0.8)
difference = {"label": "X − WH", "cmap": "RdBu", "vmin": -0.4, "vmax": 0.4}
plots.spectrogram(axes[2], X - X_hat, front_end, **difference)
for ax in axes:
    ax.label_outer()
plt.show()

# %% [markdown]
# A note that turns yellow vanishes before it ends. Why it may do so is told below, under positivity.
#
# ## How good is it?

# %%
epsilon = profile.evaluation.epsilon
print(f"PSA {metrics.precision_of_source_attribution(A, Y):.3f}")
print(f"average precision {metrics.average_precision(A, Y):.3f}, ", end="")
print(f"with frames scaled alike {metrics.average_precision(A, Y, per_frame=True):.3f}")
print(f"sparsity at ε = {epsilon:g}: {metrics.sparsity(A, epsilon):.3f}")
print(f"relative error {metrics.relative_error(X, X_hat):.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds3-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis: nearly flat, below a dotted line near one."}}
epsilons = np.logspace(-4, -1, 40)
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.sparsity_curve(ax, epsilons, [metrics.sparsity(A, e) for e in epsilons])
ax.axvline(epsilon, color=plots.INK, linewidth=0.8)
ax.axhline(1 - float(Y.float().mean()), color=plots.INK, linestyle=":")
plt.show()

# %% [markdown]
# The same chords, by all methods:

# %%
methods = ("nmf", "dds1", "dds2", "dds3")
rows = {m: workspace.evaluate(workspace.experiment(m, **cell)) for m in methods}
shown = ["psa", "average_precision", "average_precision_per_frame"]
shown += ["sparsity", "relative_error"]
print(pd.DataFrame(rows).loc[shown].T.astype(float).round(3).to_string())
for other in ("nmf", "dds2"):
    gains = {name: rows["dds3"][name] - rows[other][name] for name in shown[:2]}
    print(f"DDS-3 minus {plots.METHOD_NAMES[other]}: PSA {gains['psa']:+.3f}, ", end="")
    print(f"average precision {gains['average_precision']:+.3f}")

# %% [markdown]
# In the `laptop` profile DDS-3 has the highest PSA, and the lowest average precision. Part of both may be the way in which its
# activations are kept positive, which is another one in NMF (next section). And one snippet with one seed is not to be
# made much of: {doc}`08_comparison` asks the question on more of them.
#
# ## Positive by what means?
#
# Activations must not be negative. NMF clamps them at zero after each step (`projection`). The DDS methods search a
# free variable and use its positive part (`relu`), after the released code {cite}`ddscode`:
#
# $$ H_{jt} = \max(0, \hat{H}_{jt}), \qquad
#    \frac{\partial J}{\partial \hat{H}_{jt}} = 0 \quad \text{where } \hat{H}_{jt} < 0 $$
#
# That looks like the same thing, and is not. A clamped activation sits at zero, and rises as soon as its entry is
# needed. With the positive part, an activation below zero has no gradient any more, and what is left of Adam's
# momentum only takes it further down. It never returns. In the snippet above:

# %%
positive = result.H.cpu()
silent = positive == 0
gone = silent.all(dim=1)
print(f"fit: {fit.positivity}")
print(f"activations at zero: {silent.float().mean():.3f} of all")
print(
    f"rows of H that are zero in all frames, silent for good: {int(gone.sum())} of {N * C}"
)
lost = gone.unflatten(0, (N, C)).all(dim=1)
print(f"notes that have lost all of their entries: {int(lost.sum())} of {N}")
print(f"sounding cells of A that are at zero: {float((A == 0)[Y].float().mean()):.3f}")

# %% [markdown]
# Zeros are what a sparse decomposition is made of, but these come from the order of events: what was superfluous
# *early* in the search is lost for its whole rest. Both means on the first chords, for a few iterations, with all
# else equal. For the first we also stop halfway, to see that no activation comes back.

# %%
few = replace(experiment, chords=min(2, experiment.chords))
y = workspace.snippet(few).Y


def search(**changes) -> Decomposition:
    """A brief decomposition of the first chords, with other settings."""
    brief = replace(fit, **{"iterations": 60} | changes)
    other = Workspace(replace(profile, dds3=brief), work_dir, maps_root, device)
    return other.decomposition(few)


def report(name: str, result: Decomposition) -> None:
    psa = metrics.precision_of_source_attribution(result.A, y)
    ranked = metrics.average_precision(result.A, y)
    error = metrics.relative_error(workspace.snippet(few).X, result.X_hat)
    print(f"{name:12} PSA {psa:.3f}, average precision {ranked:.3f}, ", end="")
    print(f"relative error {error:.3f}, zeros {(result.H == 0).float().mean():.3f}")


relu = search(positivity="relu")
projection = search(positivity="projection")
halfway = search(positivity="relu", iterations=30)
report("relu", relu)
report("projection", projection)
came_back = (halfway.H == 0) & (relu.H > 0)
print(
    f"relu: zeros halfway {int((halfway.H == 0).sum())}, came back {int(came_back.sum())}"
)
assert not came_back.any()

# %% [markdown]
# Read the two measures together. PSA asks whether the activity that is there is right. It gains from whatever
# silences wrong notes, and does not mind if a right one is silenced with them. Average precision does: a sounding
# cell at zero is ranked last. So a choice may raise the one and lower the other, and a table with PSA alone would
# call that progress.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The first chords by both means. Teal: right; red: wrong; yellow: missed.", "name": "fig-dds3-positivity"}, "image": {"alt": "Two piano rolls in colours side by side. Both have the bars of the sounding notes in teal; the right one, of projection, has more or different pale red cells than the left one, of relu."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for ax, short, name in ((axes[0], relu, "relu"), (axes[1], projection, "projection")):
    plots.attribution(ax, short.A, y, front_end, pitches)
    ax.set_title(name)
axes[0].get_legend().remove()
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# ## How much the likelihood weighs
#
# The released code has $\lambda = 10^{-4}$ {cite}`ddscode`. The distance grows with the square root of the number of
# frames, and the penalty with that number. So a $\lambda$ means something only together with $T$. How much of the
# cost is penalty?

# %%
lowest = result.cost.argmin()
penalty = result.cost[lowest] - result.distance[lowest]
print(f"λ = {fit.likelihood_weight:g}, T = {T}")
print(f"penalty, weighted: {penalty:.3g} of a cost of {result.cost[lowest]:.3g}")
at_modes = fit.likelihood_weight * T * math.log(2 * math.pi) / 2
print(f"with all codes at zero and no silent frame it would be {at_modes:.3g}")

# %% [markdown]
# At the mode each active frame already costs $\lambda \cdot \tfrac{1}{2} \log 2\pi$, and a frame without activity costs nothing. So
# what the codes add is next to nothing, and hardly holds an entry back. The same chords with a weight of $10^{-4}$ and with a weight of 1:

# %%
for weight in (1e-4, 1.0):
    short = search(likelihood_weight=weight)
    report(f"λ = {weight:g}", short)
    used = short.codes.norm(dim=2)
    print(f"{'':12} median distance from the mode {used.median():.3g}")
    if weight == 1e-4:
        loose = used.median()
assert used.median() < loose

# %% [markdown]
# A larger weight keeps the entries nearer to the mode, and pays for that with a larger error. What it does to the
# attribution depends on what bound the entries before: the size of the flow, its training, or nothing.
#
# The penalty is the likelihood of the *code*. That of the *spectrum* has the determinant too: where the flow squeezes
# many spectra into few codes, a spectrum is more likely than its code says. The same weight of 1, with the determinant:

# %%
whole = search(likelihood_weight=1.0, log_determinant=True)
report("λ = 1, det", whole)
with torch.no_grad():
    for name, found_codes in (("without", short.codes), ("with", whole.codes)):
        of_spectra = flow.log_det(flow.decode(found_codes)) / D
        print(f"{name} it: log-determinant {of_spectra.median():.3g} nats per dimension")

# %% [markdown]
# With this weight the determinant wins over the fit: in the `laptop` profile the error more than doubles, and both measures of
# attribution fall. It also costs one more pass through the flow in every iteration. So it is left out by default.
#
# ## What it costs

# %% tags=["nbval-ignore-output"]
for method in ("dds2", "dds3"):
    row = rows[method]
    print(
        f"{method}: {1000 * row['seconds'] / row['iterations']:.0f} ms an iteration",
        end="",
    )
    print(f" on {row['device']}")

# %%
for method, flows in (("dds2", f"{N} flows"), ("dds3", "one flow")):
    print(f"{method}: {rows[method]['parameters'] / 1e6:.3g} million numbers in {flows}")
assert flow.size() == rows["dds3"]["parameters"]

# %% [markdown]
# The parameters of $N$ flows grow with the number of notes. Those of the one flow do not. It may be larger
# than any of the $N$ and still be smaller than all.
#
# ## What was learnt
#
# * The note of an entry is a part of its latent vector that the search does not touch. The flow itself vouches for
#   it, up to the positive part.
# * One flow takes the place of $N$, and the rest of the algorithm is that of DDS-2.
# * More of its activity is on right notes than with any other method, and it ranks sounding cells worse. PSA alone would hide that.
# * `relu` silences activations for good. That is a source of sparsity, and of missed notes.
# * $\lambda = 10^{-4}$ hardly binds. Nearly all that keeps entries piano-like is the flow and the start at its mode.
#
# **Next:** {doc}`08_comparison` sets the four methods side by side.
