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
# # DDS-1: a dictionary for every frame
#
# **The question.** What happens when the dictionary may change, freely and in every frame, as long as flows generate
# it?
#
# **You need:** the flows of {doc}`03_note_flows`, the search and the measures of {doc}`02_nmf`. **You will see:**
# how a flow becomes a dictionary, the cost with its likelihood term, the whole search in a dozen lines, and what so much
# freedom costs this first variant {cite}`martak2021,martak2022`.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"dds1.iterations": 200}
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
from scipy.optimize import nnls

from ddslib import metrics, plots
from ddslib.config import load_profile
from ddslib.decomposition import decompose
from ddslib.dictionaries import BLOCKS, KEEP, FrameDictionary, saved_bytes
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
experiment = workspace.experiment("dds1", **cell)
front_end, pitches, fit = profile.front_end, profile.pitches, profile.dds1
mixture = workspace.snippet(experiment)
X, Y = mixture.X, mixture.Y
trained = workspace.flow("note_flows", experiment.instrument, experiment.seed)
flow = trained.flow
N, (K, T) = len(pitches.numbers), X.shape
print(f"{experiment.chords} chords of {experiment.instrument}, ", end="")
print(f"P{experiment.polyphony}, {experiment.intensity}: {K} bins × {T} frames")


# %%
def draws() -> torch.Generator:
    """The random numbers that a search starts from, the same at every call."""
    return torch.Generator(workspace.device).manual_seed(0)


# %% [markdown]
# ## The formula
#
# Every note $n$ has a flow. Run backwards, the flow is a function $g_n$ from a code $\mathbf{z}$ to a spectrum. DDS-1
# gives every note one code in every frame. A frame of the mixture is then
#
# $$ \hat{\mathbf{x}}_t = \sum_n a_{nt}\, \max\bigl(0,\, g_n(\mathbf{z}_{nt})\bigr), \qquad a_{nt} \ge 0 $$
#
# This is NMF with one entry for each note, where the entries depend on codes. The positive part is needed because a
# flow may return a value just below zero where a recorded spectrum is empty. By hand, for the frames of the first
# chord, with all codes at zero:

# %%
first = X[:, mixture.chord == 0].to(workspace.device)
frames = first.shape[1]
codes = torch.zeros(N, frames, K, device=workspace.device)
with torch.no_grad():
    spectra = flow.inverse(codes)  # g_n(z_nt), all notes at once
entries = spectra.clamp(min=0)
H = torch.rand(N, frames, generator=draws(), device=workspace.device)
X_hat = (H[:, :, None] * entries).sum(dim=0).T
print(
    f"{N} notes × {frames} frames × {K} bins: {entries.numel()} numbers in the dictionary"
)
print(
    f"share of bins below zero before the positive part: {(spectra < 0).float().mean():.3f}"
)

dictionary = FrameDictionary(flow, frames)
dictionary.refresh()
assert torch.allclose(X_hat, dictionary.mix(H), rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## The cost
#
# A flow can return any spectrum at all if its code is far enough out. What is meant to keep the entries piano-like is
# their likelihood. A standard normal code of $D$ numbers (here $D = K$) has a *surprise* that grows with its length. Taken per dimension,
# in nats:
#
# $$ e(\mathbf{z}) = -\frac{\log \mathcal{N}(\mathbf{z}; 0, \mathbf{I})}{D}
#    = \frac{\lVert \mathbf{z} \rVert^2}{2D} + \frac{\log 2\pi}{2} $$
#
# It is smallest at zero. An entry pays for it according to its share of the frame, so that an unused entry may be as
# odd as it likes. Here $H_{nt} = a_{nt}$:
#
# $$ J = \lVert \mathbf{X} - \hat{\mathbf{X}} \rVert_F + \lambda \sum_{nt} \omega_{nt}\, e(\mathbf{z}_{nt}),
#    \qquad \omega_{nt} = \frac{H_{nt}}{\sum_m H_{mt} + 10^{-3}} $$
#
# The determinant of the flow is not in this cost: the likelihood is that of the code, not that of the spectrum. (The
# setting `log_determinant` adds it.)


# %%
def reconstruction(codes: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
    return (H[:, :, None] * flow.inverse(codes).clamp(min=0)).sum(dim=0).T


def penalty(codes: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
    surprise = codes.square().sum(dim=-1) / (2 * K) + math.log(2 * math.pi) / 2
    share = H / (H.sum(dim=0) + 1e-3)
    return (share * surprise).sum()


def cost(codes: torch.Tensor, H: torch.Tensor) -> torch.Tensor:
    distance = (first - reconstruction(codes, H)).norm()
    return distance + fit.likelihood_weight * penalty(codes, H)


somewhere = 0.1 * torch.randn(codes.shape, generator=draws(), device=workspace.device)
dictionary.codes.copy_(somewhere)
dictionary.refresh()
print(f"λ = {fit.likelihood_weight:g}")
for name, z in (("at zero", codes), ("somewhere", somewhere)):
    print(f"codes {name}: the penalty is {penalty(z, H):.3f}, for {frames} frames")
assert torch.allclose(dictionary.penalty(H).value, penalty(somewhere, H), rtol=1e-4)

# %% [markdown]
# ## The start
#
# All codes start at zero. There the prior has its mode, so we call $g_n(\mathbf{0})$ the *mode* of note $n$: the
# spectrum from which its flow starts. The activations start small and random:
#
# $$ \mathbf{z}_{nt} = \mathbf{0}, \qquad H_{nt} \sim U(0, 1) \cdot \sqrt{\bar{X} / N} $$
#
# where $\bar{X}$ is the mean of $\mathbf{X}$ and $N$ the number of entries in a frame.

# %%
H_start = torch.rand(N, frames, generator=draws(), device=workspace.device)
H_start *= (first.mean() / N).sqrt()
dictionary = FrameDictionary(flow, frames)
assert not dictionary.codes.any()
assert torch.allclose(H_start, dictionary.start(first, draws()))
print(f"activations start between 0 and {float((first.mean() / N).sqrt()):.3g}")

# %% [markdown]
# ## The search
#
# One iteration is one step of Adam {cite}`kingma2015` on the activations, and then one on the codes. The gradient for
# the codes goes through the flow, which is why the dictionary is called *differentiable*. Here are two iterations,
# with nothing but the formulas above and automatic differentiation:

# %%
free = H_start.clone().requires_grad_()
z = codes.clone().requires_grad_()
adam_for_h = torch.optim.Adam([free], lr=fit.step_size)
adam_for_z = torch.optim.Adam([z], lr=fit.step_size)
by_hand = []
for _ in range(2):
    (free.grad,) = torch.autograd.grad(cost(z.detach(), free.clamp(min=0)), free)
    adam_for_h.step()
    J = cost(z, free.detach().clamp(min=0))
    by_hand.append(float(J.detach()))
    (z.grad,) = torch.autograd.grad(J, z)
    adam_for_z.step()

# %% [markdown]
# `decompose` is the same function as for NMF. Only the dictionary is another. It does not differentiate through the
# product with $\mathbf{H}$: it works out that gradient by hand, and asks the flow for the rest.

# %%
two = replace(fit, iterations=2, positivity="relu")
by_library = decompose(first, FrameDictionary(flow, frames), two, generator=draws())
print("by hand:", ", ".join(f"{J:.3g}" for J in by_hand))
print("by library:", ", ".join(f"{J:.3g}" for J in by_library.cost))
assert np.allclose(by_library.cost, by_hand, rtol=0.005)

# %% [markdown]
# **The price.** No two frames share a code, so the search has $N \cdot T$ codes of $K$ numbers. The reconstruction
# has only $K \cdot T$ numbers to fit. And for the gradient, every step of the flow must remember what it computed.

# %%
MiB = 2**20
few = torch.zeros(N, 4, K, device=workspace.device, requires_grad=True)
at_once = saved_bytes(lambda: flow.inverse(few)) / few.shape[1] * T
print(f"{N * T} codes, {N * T * K / 1e6:.3g} million numbers to search")
print(f"{N * T * K / X.numel():.3g} code numbers for each number of X")
print(f"codes, or entries: {4 * N * T * K / MiB:.3g} MiB each")
print(f"kept for the gradient: {at_once / MiB:.3g} MiB")

# %% [markdown]
# The library therefore decodes block by block: some notes, some frames. What a block computes stays in the processor's
# caches, which is faster. And where what is kept would be too much, as in a long recording, a block is forgotten and
# decoded once more when its gradient is wanted. That changes the memory and the time, not the result:

# %%
print(f"blocks of about {BLOCKS[workspace.device.type]} codes")
print(f"kept: up to {KEEP[workspace.device.type] / MiB:.0f} MiB")
in_blocks = FrameDictionary(flow, frames, block=4 * frames)
forgetful = FrameDictionary(flow, frames, block=frames // 2, keep=0)
whole = FrameDictionary(flow, frames, block=N * frames)
pulled = []
for dictionary in (in_blocks, forgetful, whole):
    dictionary.codes.copy_(somewhere)
    dictionary.refresh()
    G = dictionary.mix(H) - first
    pulled.append(dictionary.pull_back(G, H, fit.likelihood_weight))
tolerance = 1e-3 * float(pulled[-1].abs().max())
assert torch.allclose(in_blocks.mix(H), whole.mix(H), rtol=1e-4, atol=1e-5)
assert torch.allclose(pulled[0], pulled[2], rtol=1e-3, atol=tolerance)
assert torch.allclose(pulled[1], pulled[2], rtol=1e-3, atol=tolerance)

# %% [markdown]
# Now the whole snippet. The paper allows the search 1000 iterations. The `laptop` profile gives it far fewer, and one
# random start, because this is by far the most expensive search of the book. Keep that in mind for everything below.

# %%
result = workspace.decomposition(experiment)
distance = result.distance
print(f"{result.iterations} iterations of step size {fit.step_size:g}")
print(f"‖X‖ = {X.norm():.3g}: the distance of an empty reconstruction")
print(
    f"smallest distance on the way: {distance.min():.3g}; in the last iteration: {distance[-1]:.3g}"
)
rise = distance[1:] / distance[:-1]
print(f"iterations in which the distance rose: {int((rise > 1).sum())}")
print(f"largest rise from one iteration to the next: by a factor of {rise.max():.3g}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it. At λ this small the two curves lie on each other. The dotted line is the distance of an empty reconstruction.", "name": "fig-dds1-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes: the cost shoots up by two orders of magnitude, then falls far below a dotted horizontal line, with many narrow peaks on the way."}}
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.cost_history(ax, result.cost, label="cost J")
plots.cost_history(ax, distance, label="distance ‖X − X̂‖")
ax.axhline(float(X.norm()), color=plots.INK, linestyle=":", label="‖X‖")
ax.lines[1].set_linestyle("--")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## The dictionary before and after
#
# The search starts with the same $N$ spectra in every frame. It ends with $N \cdot T$ different ones. An entry's norm
# means nothing in itself, since a small activation undoes a large entry. So the entries are shown scaled to norm 1.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Entries scaled to norm 1. Left: the mode of every note. Right: what the search made of it, in eight frames of the snippet for each note.", "name": "fig-dds1-dictionary"}, "image": {"alt": "Two images of spectra side by side, sorted by pitch. Left, one clean spectrum for each note, with partials rising from left to right. Right, eight of each note; the partials still rise, fainter, among isolated bright spots."}}
chosen = torch.linspace(0, T - 1, min(8, T)).long()
start = FrameDictionary(flow, 1)
start.refresh()
found = workspace.found_dictionary(experiment)
before = torch.cat([start.entries(n) for n in range(N)], dim=1).cpu()
after = torch.cat([found.entries(n)[:, chosen] for n in range(N)], dim=1).cpu()
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)
for ax, W, name in ((axes[0], before, "before"), (axes[1], after, "after")):
    scaled = W / W.norm(dim=0).clamp(min=1e-9)
    sources = np.repeat(np.arange(N), W.shape[1] // N)
    plots.dictionary(ax, scaled, sources, front_end, pitches)
    ax.set_title(name)
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# One of them in detail. A chord of the held-out piano is a sum, so its frame also has the peaks of the other notes.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A note that sounds, in one frame: the mode of its flow, the entry that was found, and the frame itself, each scaled to a maximum of 1. Dotted lines mark the partials of the note.", "name": "fig-dds1-entry"}, "image": {"alt": "Three curves over frequency: the mode of a note with peaks on the dotted lines of its partials, the entry that was found, which follows them and adds irregular bumps, and a frame of the mixture, whose further peaks belong to other notes."}}
t = int((mixture.chord == 0).nonzero()[0]) + frames // 3
note = int(Y[:, t].nonzero()[0])
curves = {
    "frame of X": (X[:, t], plots.INK),
    "mode": (before[:, note], plots.WRONG),
    "entry found": (found.entries(note)[:, t].cpu(), plots.RIGHT),
}
figure, ax = plt.subplots(figsize=(9, 3))
for name, (values, colour) in curves.items():
    plots.spectrum(ax, values / values.max(), front_end, name, color=colour)
ax.set(ylabel="relative to the maximum")
name = librosa.midi_to_note(pitches.numbers[note])
fundamental = librosa.midi_to_hz(pitches.numbers[note]) / 1000
for partial in np.arange(fundamental, ax.get_xlim()[1], fundamental):
    ax.axvline(partial, color=plots.INK, linestyle=":", linewidth=0.6, zorder=0)
ax.set_title(name)
ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
plt.show()

# %% [markdown]
# ## What the codes did
#
# How far did the codes go? A standard normal vector of $D$ numbers has a length near $\sqrt{D}$: nearly all of its
# volume is there, and almost none near the mode. The latents of real frames, which we get by running the flows
# forwards over validation frames, are shorter, but of that order. (Training added noise to its frames, so a frame without noise is
# more regular than what the flow was taught.)

# %%
sounds = Y.any(dim=1)
codes = result.codes.cpu()
length = codes.norm(dim=2)
training_frames = workspace.frames(without=experiment.instrument)
held_out = training_frames.validation(profile.training, experiment.seed)


def validation_frames(source: int, count: int = 40) -> torch.Tensor:
    """Some frames (at most count, K) of a source that no flow was trained on."""
    rows = np.flatnonzero(held_out & (training_frames.sources == source))
    few = rows[:: -(-len(rows) // count)]
    return torch.from_numpy(training_frames.values[few]).to(workspace.device)


real = [validation_frames(n) for n in range(N)]
with torch.no_grad():
    latents = [flow.take([n])(real[n][None])[0][0].cpu() for n in range(N)]
typical = torch.stack([latent.norm(dim=1).median() for latent in latents])
print(f"√D: {math.sqrt(K):.3g}")
print(f"latents of validation frames, median length: {typical.median():.3g}")
print(f"codes that were found, median length: {length.median():.3g}")
print(f"  on notes that sound somewhere: {length[sounds].median():.3g}")
if not sounds.all():
    print(f"  on notes that never sound: {length[~sounds].median():.3g}")

# %% [markdown]
# A length says nothing about the determinant. So we also ask the flows for the full log-likelihood of what was
# found, $\log p(g_n(\mathbf{z}))$, in nats per dimension, in some of the frames. Validation frames show what
# real spectra get. The mode of the prior need not be the most likely spectrum, since the determinant counts too.

# %%
some = torch.linspace(0, T - 1, min(12, T)).long()
with torch.no_grad():
    nats = flow.log_prob(flow.decode(result.codes[:, some])).cpu() / K
    nats_of_modes = (
        flow.log_prob(flow.decode(torch.zeros_like(result.codes[:, :1]))).cpu() / K
    )
    nats_of_frames = [
        flow.take([n]).log_prob(real[n][None])[0].cpu() / K for n in range(N)
    ]
nats_of_frames = torch.stack([values.median() for values in nats_of_frames])
print("nats per dimension, median over notes")
print(f"  validation frames {nats_of_frames.median():.3f}")
print(f"  modes {nats_of_modes.median():.3f}")
print(f"  entries found {nats.median():.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each of some frames. Left: distance of the codes from the mode. Right: log-likelihood of the entries. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds1-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes lie below the black bars of real frames for low notes, level with them for the highest, and far below the dashed line. Right, most log-likelihoods lie at the black bars, and a band of outliers far below. Dots of sounding and of silent notes look alike."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
plots.by_source(axes[0], length[:, some], sounds, pitches, "distance from the mode ‖z‖")
plots.by_source(axes[1], nats, sounds, pitches, "log p (nats per dimension)")
for ax, bars in zip(axes, (typical, nats_of_frames), strict=True):
    ax.plot(pitches.numbers, bars, "_", color=plots.INK, label="validation frames")
axes[0].axhline(math.sqrt(K), color=plots.INK, linestyle="--", linewidth=0.8)
axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Most entries are as likely as real frames. Some are not at all: they lie in a band far below, which no median shows.
#
# How far could a code go? The penalty hardly holds it, with so small a $\lambda$. In every dimension, Adam moves by about the step
# size in an iteration. So a code gets no further than about
#
# $$ \text{iterations} \times \text{step size} \times \sqrt{D} $$

# %%
reach = result.iterations * fit.step_size
print(
    f"the codes can go {reach * math.sqrt(K):.3g} far; the longest has {length.max():.3g}"
)
assert length.max() < 1.5 * reach * math.sqrt(K)

# %% [markdown]
# The codes stay far within that. Their steps go back and forth, and an entry that is no longer active gets no gradient.

# %% [markdown]
# ## Activations and reconstruction

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll. The colours end at the 99th percentile, since a few values are far larger.", "name": "fig-dds1-activations"}, "image": {"alt": "Above, an image of activations over time and pitch: bright bars where the notes of the piano roll below lie, and many weaker bars of other notes with the same beginnings and ends."}}
A = result.A.cpu()
figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
plots.activations(axes[0], A, front_end, pitches, vmax=float(A.quantile(0.99)))
plots.piano_roll(axes[1], Y, front_end, pitches)
axes[0].label_outer()
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll, as in the chapter on NMF. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds1-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are mostly teal, with some yellow; bars of pale red, on other notes, fill much of the rest."}}
figure, ax = plt.subplots(figsize=(9, 3.6))
plots.attribution(ax, A, Y, front_end, pitches)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The snippet, what DDS-1 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds1-fit"}, "image": {"alt": "Three spectrograms: the snippet, its reconstruction, which looks much like it, and their difference, which is pale throughout, with thin blue and red streaks along partials."}}
X_hat = result.X_hat.cpu()
figure, axes = plt.subplots(3, 1, figsize=(9, 7), sharex=True)
plots.spectrogram(axes[0], X, front_end, label="X", vmin=0, vmax=0.8)
plots.spectrogram(axes[1], X_hat, front_end, label="X̂", vmin=0, vmax=0.8)
difference = {"label": "X − X̂", "cmap": "RdBu", "vmin": -0.4, "vmax": 0.4}
plots.spectrogram(axes[2], X - X_hat, front_end, **difference)
for ax in axes:
    ax.label_outer()
plt.show()

# %% [markdown]
# ## How good is it?
#
# In DDS-1, $A_{nt} = \lVert \mathbf{w}_{nt} \rVert\, H_{nt}$: each entry has its own norm, and there is nothing to
# sum.

# %%
norms = torch.stack([found.entries(n).norm(dim=0) for n in range(N)])
assert torch.allclose(norms * result.H, result.A, rtol=1e-3, atol=1e-4)
epsilon = profile.evaluation.epsilon
print(f"PSA {metrics.precision_of_source_attribution(A, Y):.3f}")
print(f"average precision {metrics.average_precision(A, Y):.3f}, ", end="")
print(f"with frames scaled alike {metrics.average_precision(A, Y, per_frame=True):.3f}")
print(f"sparsity at ε = {epsilon:g}: {metrics.sparsity(A, epsilon):.3f}")
print(f"relative error {metrics.relative_error(X, X_hat):.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds1-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis, which starts at about one half and rises slowly towards a dotted line near one."}}
epsilons = np.logspace(-4, -1, 40)
figure, ax = plt.subplots(figsize=(6, 2.8))
plots.sparsity_curve(ax, epsilons, [metrics.sparsity(A, e) for e in epsilons])
ax.axvline(epsilon, color=plots.INK, linewidth=0.8)
ax.axhline(1 - float(Y.float().mean()), color=plots.INK, linestyle=":")
plt.show()

# %% [markdown]
# The same chords, by the methods so far:

# %%
methods = ("nmf", "dds1")
rows = {m: workspace.evaluate(workspace.experiment(m, **cell)) for m in methods}
shown = ["psa", "average_precision", "average_precision_per_frame"]
shown += ["sparsity", "relative_error"]
print(pd.DataFrame(rows).loc[shown].T.astype(float).round(3).to_string())
gap = rows["dds1"]["psa"] - rows["nmf"]["psa"]
print(f"PSA of DDS-1 minus NMF: {gap:+.3f}")

# %% [markdown]
# In the paper DDS-1 attributes worse than NMF. The last line says whether it does here; {doc}`08_comparison` has the
# paper's numbers.
#
# ## What the freedom costs
#
# **Fixed spectra beside it.** What do the codes add? We leave them at zero and find the best
# activations of the $N$ modes exactly, frame by frame, by non-negative least squares. That is NMF with one fixed
# entry for each note:

# %%
modes = before.double().numpy()
frame_by_frame = X.double().numpy().T
H_of_modes = torch.tensor(np.stack([nnls(modes, x)[0] for x in frame_by_frame]).T)
A_of_modes = before.norm(dim=0)[:, None] * H_of_modes
print("the modes, with codes left alone:")
print(f"  PSA {metrics.precision_of_source_attribution(A_of_modes, Y):.3f}", end="")
print(f", average precision {metrics.average_precision(A_of_modes, Y):.3f}")
print(f"  relative error {metrics.relative_error(X, before.double() @ H_of_modes):.3f}")
print("the codes set free:")
print(f"  PSA {metrics.precision_of_source_attribution(A, Y):.3f}", end="")
print(f", average precision {metrics.average_precision(A, Y):.3f}")
print(f"  relative error {metrics.relative_error(X, X_hat):.3f}")

# %% [markdown]
# Two things differ here: the codes, and the search of the activations, which is exact for the modes and cut short for DDS-1. So some
# of the wrong activity may be what the search has not yet taken away. Still, a smaller error is not a better attribution. Each entry takes what it can of the residual, and
# within one frame nothing contradicts a wrong note that does: notes whose partials coincide with those of a sounding
# note, an octave or a twelfth away, explain them just as well. One frame shows it,
# the one whose own PSA is the median of all frames:

# %%
own_psa = (A * Y).sum(dim=0) / A.sum(dim=0)
t = int(own_psa.argsort()[T // 2])
activity = A[:, t]
right = Y[:, t]
order = activity.argsort(descending=True)
half = int((activity[order].cumsum(0) < activity.sum() / 2).sum()) + 1
print(
    f"{int(right.sum())} notes sound, with {activity[right].sum() / activity.sum():.3f}",
    end="",
)
print(" of the frame's activity")
print(f"half of the activity is on the {half} strongest of {N} notes")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One frame. Left: its activity by note. Right: the frame, and what the sounding and the silent notes add to its reconstruction.", "name": "fig-dds1-frame"}, "image": {"alt": "Left, bars of activity over pitch, teal and high for the few sounding notes, red and lower for many others. Right, three curves over frequency: the frame with its sharp partials, and below it the sum of the sounding notes' entries and that of the silent notes', which share the partials between them."}}
used = (
    torch.stack([found.entries(n)[:, t] for n in range(N)]).cpu()
    * result.H[:, t, None].cpu()
)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(2, 3))
colours = np.where(right, plots.RIGHT, plots.WRONG)
axes[0].bar(pitches.numbers, activity, color=colours)
octaves = [pitch for pitch in pitches.numbers if pitch % 12 == 0]
axes[0].set_xticks(octaves, [librosa.midi_to_note(pitch) for pitch in octaves])
axes[0].set(xlabel="pitch", ylabel="activity A")
parts = {
    "frame": (X[:, t], plots.INK),
    "from sounding notes": (used[right].sum(0), plots.RIGHT),
    "from silent notes": (used[~right].sum(0), plots.WRONG),
}
for name, (values, colour) in parts.items():
    plots.spectrum(axes[1], values, front_end, name, color=colour)
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# **Where the flow is steep.** A step of the codes moves all $K$ numbers of a code at once. Near the mode that changes
# a spectrum by little. Elsewhere a flow can be steep. We move each code by one step in a random direction, and see
# how far its spectrum goes, compared with its own norm:

# %%
signs = torch.randint(0, 2, (N, len(some), K), generator=draws(), device=workspace.device)
step = fit.step_size * (2 * signs - 1)
moves = {}
for name, z in (
    ("at the modes", torch.zeros_like(step)),
    ("found", result.codes[:, some]),
):
    with torch.no_grad():
        here, there = flow.decode(z), flow.decode(z + step)
    moves[name] = ((there - here).norm(dim=2) / here.norm(dim=2)).flatten()
    median, largest = moves[name].median(), moves[name].max()
    print(
        f"codes {name}: the spectrum moves by {median:.3g} of its norm, at most {largest:.3g}"
    )

# %% [markdown]
# A single code in a steep place is enough. Its spectrum jumps, and with it the distance, which is one norm over all
# frames: whatever is wrong anywhere weighs on the gradient of every frame. That may happen in any iteration, the last one too.
# So what the search returns is its iterate of lowest cost, and not the last. A smaller step jumps less, but does not get as
# far in as many iterations. Three frames, at the profile's step size and at a tenth of it:

# %%
few = torch.linspace(0, frames - 1, 3).long()
x, y = first[:, few.to(workspace.device)], Y[:, mixture.chord == 0][:, few]
for size in (fit.step_size, fit.step_size / 10):
    tiny = replace(fit, iterations=60, step_size=size)
    short = decompose(x, FrameDictionary(flow, 3), tiny, generator=draws())
    rise = (short.distance[1:] / short.distance[:-1]).max()
    psa = metrics.precision_of_source_attribution(short.A, y)
    ranked = metrics.average_precision(short.A, y)
    print(f"step {size:g}: largest rise by a factor of {rise:.3g}")
    print(f"  relative error {metrics.relative_error(x, short.X_hat):.3f}", end="")
    print(f", PSA {psa:.3f}, average precision {ranked:.3f}")

# %% [markdown]
# **Where the steps shrink.** The released code takes a thousand steps, each a small part of those in `laptop`. Whenever
# the cost has stayed above its lowest value for more than ten iterations, the steps are halved. A short jump halves nothing. But a search that does not get
# back below its lowest cost has its steps halved again and again. In an iteration Adam moves an activation by about one step. So with
# steps $\alpha_i$, no activation grows much beyond
#
# $$ H_{nt} \lesssim H_{nt}^{\text{start}} + \sum_i \alpha_i $$
#
# Here are the same three frames with the steps of this profile, and with those of the released code. The setting
# `start = "fitted"` is ours: before the search, the activations are fitted to the modes, which is NMF with one entry for each
# note. What that gives by itself is in the last row. (*AP* is the average precision.)

# %%
released = load_profile("paper").dds1
fits = {
    "profile's steps": fit,
    "released steps": replace(released, start="random"),
    "released steps, fitted start": replace(released, start="fitted"),
    "fitted start alone": replace(released, start="fitted", iterations=1),
}
searches = {
    name: decompose(x, FrameDictionary(flow, 3), own, generator=draws())
    for name, own in fits.items()
}
ends = {
    name: {
        "iterations": search.iterations,
        "first step": float(search.step_size[0]),
        "last step": float(search.step_size[-1]),
        "all steps": float(search.step_size.sum()),
        "largest H": float(search.H.max()),
        "error": metrics.relative_error(x, search.X_hat),
        "PSA": metrics.precision_of_source_attribution(search.A, y),
        "AP": metrics.average_precision(search.A, y),
    }
    for name, search in searches.items()
}
pd.DataFrame(ends).T.map("{:.4g}".format)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Three searches for the same three frames. Left: the relative distance by iteration. Right: the step size, which never grows.", "name": "fig-dds1-steps"}, "image": {"alt": "Two panels over iterations, on logarithmic axes. Left: with the profile's steps the distance shoots up at first, has a few peaks, and ends lowest. With the released steps it falls slowly, has many peaks on the way, and levels off highest; from the fitted start it is lower, but for its peaks. Right: the profile's steps stay as they are. The released ones go down in stairs, and from the random start they plunge at the end."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3))
for name, search in list(searches.items())[:-1]:  # the last is a start alone
    plots.cost_history(axes[0], search.distance / x.norm().cpu(), label=name)
    axes[1].loglog(np.arange(1, search.iterations + 1), search.step_size)
axes[0].set_ylabel("‖X − X̂‖ / ‖X‖")
axes[1].set(xlabel="iteration", ylabel="step size")
axes[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Small steps jump, too: one code in a steep place is enough. With the released steps the search from small activations
# comes to rest before they have grown, and notes are told apart badly. From activations that are fitted already, the
# same steps reach nearly the PSA of the profile's. That is not the start's own: by itself its PSA is hardly better than where
# the steps shrank, and its error is the largest of the four. Only its average precision is high.
# {doc}`08_comparison` meets the same at the paper's size.

# %% [markdown]
# ## What it costs

# %% tags=["nbval-ignore-output"]
row = rows["dds1"]
print(f"{1000 * row['seconds'] / row['iterations']:.0f} ms an iteration", end="")
print(f" on {row['device']}, for {T} frames")

# %%
print(f"{row['parameters'] / 1e6:.3g} million numbers in the {N} flows")
print(f"{N * T * K / 1e6:.3g} million numbers in the codes")

# %% [markdown]
# Time and memory of the search grow with the length of the recording: every frame brings $N$ codes of its own.
#
# ## What was learnt
#
# * A flow run backwards is a dictionary whose entries can change, and automatic differentiation finds how.
# * With a code for every note and every frame there are far more unknowns than data. Nothing ties an entry to what
#   its note sounds like in the next frame.
# * The error falls by much, the attribution does not follow: notes that do not sound help to explain the partials of those that do.
# * The search jumps where a flow is steep, in any iteration. So the iterate of lowest cost is what counts.
# * Steps that start small may shrink before the activations have grown. A fitted start helps.
#
# **Next:** {doc}`05_dds2` lets the frames share their entries.
