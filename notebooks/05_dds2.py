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
# # DDS-2: entries shared over time
#
# **The question.** What changes when each note has only a few entries, and all frames must do with them?
#
# **You need:** {doc}`04_dds1`, of which this is the repair. **You will see:** a dictionary of a fixed size that
# adapts to the piano at hand, whether identical entries of a note grow apart, and what sharing changes.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"dds2.components": 3}
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
from ddslib.decomposition import decompose
from ddslib.dictionaries import FrameDictionary, SharedDictionary
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
experiment = workspace.experiment("dds2", **cell)
front_end, pitches, fit = profile.front_end, profile.pitches, profile.dds2
mixture = workspace.snippet(experiment)
X, Y = mixture.X, mixture.Y
flow = workspace.flow("note_flows", experiment.instrument, experiment.seed).flow
N, C, (K, T) = len(pitches.numbers), fit.components, X.shape
print(f"{experiment.chords} chords of {experiment.instrument}, ", end="")
print(f"P{experiment.polyphony}, {experiment.intensity}: {K} bins × {T} frames")
print(f"C = {C} entries for each of N = {N} notes")


# %%
def draws() -> torch.Generator:
    """The random numbers that a search starts from, the same at every call."""
    return torch.Generator(workspace.device).manual_seed(0)


# %% [markdown]
# ## The formula
#
# The flows are those of DDS-1, and so is the cost. What changes is who owns a code. Note $n$ has $C$ of them,
# $\mathbf{z}_{n1}, \dots, \mathbf{z}_{nC}$, for the whole recording. The entries form a matrix, as in NMF:
#
# $$ \hat{\mathbf{X}} = \mathbf{W}(\mathbf{Z})\, \mathbf{H}, \qquad
#    \mathbf{w}_{nc} = \max\bigl(0,\, g_n(\mathbf{z}_{nc})\bigr) $$
#
# By hand, for the first chord, with all codes at zero:

# %%
first = X[:, mixture.chord == 0].to(workspace.device)
frames = first.shape[1]
codes = torch.zeros(N, C, K, device=workspace.device)
with torch.no_grad():
    W = flow.inverse(codes).clamp(min=0).flatten(0, 1).T
H = torch.rand(N * C, frames, generator=draws(), device=workspace.device)
X_hat = W @ H
print(
    f"W: {W.shape[0]} bins × {W.shape[1]} entries, H: {H.shape[0]} entries × {H.shape[1]} frames"
)

dictionary = SharedDictionary(flow, C)
dictionary.refresh()
assert torch.allclose(X_hat, dictionary.mix(H), rtol=1e-4, atol=1e-4)

# %% [markdown]
# The cost is that of {doc}`04_dds1`. An entry's share is now summed over the frames that it serves:
#
# $$ J = \lVert \mathbf{X} - \mathbf{W}(\mathbf{Z})\, \mathbf{H} \rVert_F + \lambda \sum_j \omega_j\, e(\mathbf{z}_j),
#    \qquad \omega_j = \sum_t \frac{H_{jt}}{\sum_i H_{it} + 10^{-3}} $$

# %%
share = (H / (H.sum(dim=0) + 1e-3)).sum(dim=1)
surprise = codes.flatten(0, 1).square().sum(dim=1) / (2 * K) + math.log(2 * math.pi) / 2
assert torch.allclose((share * surprise).sum(), dictionary.penalty(H).value, rtol=1e-4)

# %% [markdown]
# **What sharing saves.** The unknowns are the codes and the activations. The codes no longer grow with the recording, so that
# the longer it is, the fewer unknowns there are for each number of $\mathbf{X}$:

# %%
DDS_1, DDS_2 = N * T * K + N * T, N * C * K + N * C * T
print("unknown numbers for each number of X:")
print(f"  DDS-1 {DDS_1 / X.numel():.3g}, DDS-2 {DDS_2 / X.numel():.3g}")
minutes = 5
long = minutes * 60 * front_end.sample_rate // front_end.hop
print(f"the same for {minutes} minutes of music:")
print(
    f"  DDS-1 {(K + 1) * N / K:.3g}, DDS-2 {(N * C * K + N * C * long) / (K * long):.3g}"
)
print(f"codes to decode in an iteration: DDS-1 {N * T}, DDS-2 {N * C}")

# %% [markdown]
# ## The start
#
# The codes start at zero, so the $C$ entries of a note are one and the same spectrum, its mode. Only the activations
# are random:
#
# $$ H_{jt} \sim U(0, 1) \cdot \sqrt{\bar{X} / (N C)} $$

# %%
uniform = torch.rand(N * C, frames, generator=draws(), device=workspace.device)
assert torch.allclose(
    uniform * (first.mean() / (N * C)).sqrt(), dictionary.start(first, draws())
)
alike = torch.stack([dictionary.entries(n) for n in range(N)])
spread = (alike - alike[:, :, :1]).abs().max()
print(f"largest difference between entries of one note: {spread:.3g}")
assert spread < 1e-5

# %% [markdown]
# That randomness has work to do. The gradient for an entry is the residual, weighted by that entry's row of
# $\mathbf{H}$. Entries of the same spectrum with the same activations have the same gradient. They would stay the
# same for ever. Ten iterations from equal and from random activations:

# %%
brief = replace(fit, iterations=10)
start = dictionary.start(first, draws())
equal = start.unflatten(0, (N, C))[:, :1].expand(-1, C, -1).flatten(0, 1)
for name, H_start in (("equal", equal), ("random", start)):
    short = decompose(first, SharedDictionary(flow, C), brief, H=H_start)
    apart = (short.codes - short.codes[:, :1]).norm(dim=2).max()
    length = short.codes.norm(dim=2).max()
    share_apart = float(apart / length)
    print(
        f"{name} activations: codes of a note are apart by {share_apart:.3f} of their length"
    )
    assert (share_apart < 0.01) == (name == "equal" or C == 1)

# %% [markdown]
# ## The search
#
# Whenever the cost has stayed above its lowest value for more than ten iterations, the step size is halved.

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

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it. Where a code gets to a steep place of its flow the cost leaps up, and soon comes down again.", "name": "fig-dds2-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes that fall by a factor of two to three, with many narrow spikes that rise up to a hundredfold."}}
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.cost_history(ax, result.cost, label="cost J")
plots.cost_history(ax, distance, label="distance ‖X − X̂‖")
ax.lines[1].set_linestyle("--")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The dictionary before and after

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The C entries of every note, scaled to norm 1. Left: at the start, where those of a note are equal. Right: at the end.", "name": "fig-dds2-dictionary"}, "image": {"alt": "Two images of spectra sorted by pitch. Left, clean partials in steps, one step a note. Right, the same partials with differences between the entries of a step, some of them broad or noisy."}}
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
# How different have the entries of a note become? We take the *cosine* between two of them: 1 for the same shape, 0
# for spectra without a common partial.

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
    assert cosine[:, pairs].min() < 0.99

# %% [markdown]
# A cosine near 1 says that the entries have stayed almost the same. Do they at least divide the work? Here is a note that sounds, with its entries, a frame of the chord in
# which it sounds, and its rows of $\mathbf{H}$ over the whole snippet. Activations are multiplied by the norms of the
# entries, as in $\mathbf{A}$.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The most active note. Above: its mode, its entries and a frame of the held-out piano, each scaled to a maximum of 1; dotted lines mark its partials. Below: how active each entry is. The grey background marks where the note sounds.", "name": "fig-dds2-note"}, "image": {"alt": "Above, spectra of one note over frequency: the mode, several thin curves of the entries that were found and a frame, all with peaks at the dotted lines. Below, the activity of each entry over time as lines, high where the background is grey."}}
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
# Entries whose curves lie on each other do little more than one of them would.
#
# ## What the codes did
#
# Decoding is cheap now, so the search could afford more iterations than in DDS-1. In the `laptop` profile it makes as many, with smaller
# steps. The latents of validation frames are the measure again.

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
        own, frames_of_note = flow.take([n]), validation_frames(n)[None]
        latents.append(own(frames_of_note)[0][0].norm(dim=1).median().cpu())
        nats_of_frames.append(own.log_prob(frames_of_note)[0].median().cpu() / K)
    nats = flow.log_prob(flow.decode(result.codes)).cpu() / K
typical, nats_of_frames = torch.stack(latents), torch.stack(nats_of_frames)
for name, values, real in (
    ("‖z‖", length, typical),
    ("log p, nats per dimension", nats, nats_of_frames),
):
    print(f"{name}: entries of sounding notes {values[sounds].median():.3g}", end="")
    if not sounds.all():
        print(f", of notes that never sound {values[~sounds].median():.3g}", end="")
    print(f", validation frames {real.median():.3g}")
print(f"√D: {math.sqrt(K):.3g}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each entry. Left: distance of its code from the mode. Right: its log-likelihood. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds2-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes, below the dashed line of the square root of D, beside the black bars of real frames. Right, the log-likelihoods of the entries, beside the black bars of real frames."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
plots.by_source(axes[0], length, sounds, pitches, "distance from the mode ‖z‖")
plots.by_source(axes[1], nats, sounds, pitches, "log p (nats per dimension)")
for ax, bars in zip(axes, (typical, nats_of_frames), strict=True):
    ax.plot(pitches.numbers, bars, "_", color=plots.INK, label="validation frames")
axes[0].axhline(math.sqrt(K), color=plots.INK, linestyle="--", linewidth=0.8)
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Codes of notes that never sound move too. At the start every note is active, and whatever is active gets a
# gradient.
#
# ## Activations and reconstruction
#
# The $C$ rows of a note are summed, each with the norm of its entry:
#
# $$ A_{nt} = \sum_{c} \lVert \mathbf{w}_{nc} \rVert \, H_{nc,t} $$

# %%
summed = (after.norm(dim=1)[:, :, None] * H).sum(dim=1)
assert torch.allclose(summed, A, rtol=1e-3, atol=1e-4)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll.", "name": "fig-dds2-activations"}, "image": {"alt": "Above, an image of activations over time and pitch in which the notes of the chords stand out as bars; below, the piano roll with the same bars."}}
figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
plots.activations(axes[0], A, front_end, pitches)
plots.piano_roll(axes[1], Y, front_end, pitches)
axes[0].label_outer()
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds2-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are teal to olive, with patches of pale red on other notes and much white between them."}}
figure, ax = plt.subplots(figsize=(9, 3.6))
plots.attribution(ax, A, Y, front_end, pitches)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The snippet, what DDS-2 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds2-fit"}, "image": {"alt": "Three spectrograms: the snippet, its reconstruction, which looks much like it, and their difference, faint blue and red streaks along partials and at onsets."}}
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
# ## How good is it?

# %%
epsilon = profile.evaluation.epsilon
print(f"PSA {metrics.precision_of_source_attribution(A, Y):.3f}")
print(f"average precision {metrics.average_precision(A, Y):.3f}, ", end="")
print(f"with frames scaled alike {metrics.average_precision(A, Y, per_frame=True):.3f}")
print(f"sparsity at ε = {epsilon:g}: {metrics.sparsity(A, epsilon):.3f}")
print(f"relative error {metrics.relative_error(X, X_hat):.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds2-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis: nearly flat, below a dotted line near one."}}
epsilons = np.logspace(-4, -1, 40)
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.sparsity_curve(ax, epsilons, [metrics.sparsity(A, e) for e in epsilons])
ax.axvline(epsilon, color=plots.INK, linewidth=0.8)
ax.axhline(1 - float(Y.float().mean()), color=plots.INK, linestyle=":")
plt.show()

# %% [markdown]
# The curve hardly depends on ε where the silent cells are exactly zero. Such zeros come from the positive part of the
# activations, which {doc}`07_dds3` looks into.

# %%
print(f"cells of A that are exactly zero: {float((A == 0).float().mean()):.3f}")

# %% [markdown]
# The same chords, by the methods so far:

# %%
methods = ("nmf", "dds1", "dds2")
rows = {m: workspace.evaluate(workspace.experiment(m, **cell)) for m in methods}
shown = ["psa", "average_precision", "average_precision_per_frame"]
shown += ["sparsity", "relative_error"]
print(pd.DataFrame(rows).loc[shown].T.astype(float).round(3).to_string())
for name in ("psa", "relative_error"):
    print(f"{name}, DDS-2 minus DDS-1: {rows['dds2'][name] - rows['dds1'][name]:+.3f}")

# %% [markdown]
# ## What sharing changes
#
# In DDS-1 an entry answers to one frame. Here it answers to all of them, and its gradient is a sum over time:
#
# $$ \frac{\partial J}{\partial \mathbf{w}_j} = \sum_t H_{jt}\, \frac{\hat{\mathbf{x}}_t - \mathbf{x}_t}{J} $$
#
# (here $J$ stands for the distance alone). An entry that bends towards the partials of another note gains in the
# frames in which that note sounds, and loses in all others in which it is active. What is common to a note's frames
# adds up, and what is peculiar to one frame is one voice among many.
#
# But DDS-2 also has $C$ entries for each note, and other steps. Which of these is it? Here all have the step size of DDS-1 and the
# same few iterations, on a dozen frames. Between the first two the only difference is who owns a code. Between the last two it is
# the number of entries. Three searches each, from different activations, of which the median is shown:


# %%
def four_frames(chord: int) -> torch.Tensor:
    of_chord = (mixture.chord == chord).nonzero()[:, 0]
    return of_chord[torch.linspace(0, len(of_chord) - 1, 4).long()]


some = torch.cat([four_frames(chord) for chord in range(min(3, experiment.chords))])
x, y = X[:, some].to(workspace.device), Y[:, some]
brief = replace(profile.dds1, iterations=40)
contenders = {
    "an entry for each frame": lambda: FrameDictionary(flow, len(some)),
    "one entry for all frames": lambda: SharedDictionary(flow, 1),
    f"{C} entries for all frames": lambda: SharedDictionary(flow, C),
}


def measured(dictionary: SharedDictionary | FrameDictionary, seed: int) -> dict:
    search = torch.Generator(workspace.device).manual_seed(seed)
    short = decompose(x, dictionary, brief, generator=search)
    return {
        "PSA": metrics.precision_of_source_attribution(short.A, y),
        "average precision": metrics.average_precision(short.A, y),
        "relative error": metrics.relative_error(x, short.X_hat),
    }


medians = {
    name: pd.DataFrame([measured(make(), seed) for seed in range(3)]).median()
    for name, make in contenders.items()
}
pd.DataFrame(medians).T.round(3)

# %% [markdown]
# In the `laptop` profile, owning the codes in common changes the attribution little, and it lowers the error. With many entries
# average precision falls by much: right notes are lost. Whether PSA rises with them is more than so few frames can tell. So, with the
# steps of DDS-1, neither by itself makes the difference between DDS-1 and DDS-2.
#
# Where is DDS-2 still wrong? The hammer's blow at the onset has energy at all frequencies. We compare the share of activity that is
# wrong in the first three frames of each chord with that of all later frames, and ask where most of the wrong activity is.

# %%
age = torch.cat(
    [torch.arange(int((mixture.chord == c).sum())) for c in mixture.chord.unique()]
)
for name, chosen in (("in the first three frames", age < 3), ("later", age >= 3)):
    wrong = (A * ~Y)[:, chosen].sum()
    print(
        f"wrong activity {name}: {wrong / A[:, chosen].sum():.3f} of all there, ", end=""
    )
    print(f"{wrong / (A * ~Y).sum():.3f} of all that is wrong")

# %% [markdown]
# Sharing cannot tell apart notes that always sound together. Nor does it stop an entry of a
# silent note from taking up whatever is left over.
#
# ## What it costs

# %% tags=["nbval-ignore-output"]
for method in ("dds1", "dds2"):
    row = rows[method]
    print(
        f"{method}: {1000 * row['seconds'] / row['iterations']:.0f} ms an iteration",
        end="",
    )
    print(f" on {row['device']}")

# %%
print(
    f"{rows['dds2']['parameters'] / 1e6:.3g} million numbers in the {N} flows, as for DDS-1"
)
print(f"{N * C * K / 1e6:.3g} million numbers in the codes, whatever the length")

# %% [markdown]
# ## What was learnt
#
# * A few entries for each note, shared by all frames, reconstruct the chords somewhat worse than DDS-1 with an entry for every frame,
#   and attribute better.
# * Those of a note start as copies. Random activations let them part, but in few iterations they hardly do.
# * The cost of decoding no longer depends on the length of the recording.
#
# **Next:** every note still has a flow of its own, which never heard another note. {doc}`06_conditional_flow` trains
# one for all.
