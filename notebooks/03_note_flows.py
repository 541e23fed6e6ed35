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
# # A flow for every note
#
# **The question.** Can a smooth function stand for *all* spectra of a note, the stored ones and those in between?
#
# **You need:** the training frames of {doc}`02_nmf`. **You will see:** what a normalizing flow is, from a formula
# of one line to a stack of flows, one for each note; how they are trained; and what they have learnt, in figures and by ear.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"note_flows.epochs": 80}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
seed = None  # of the training; None leaves it to the profile

# %%
from dataclasses import replace

import librosa
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from ddslib import metrics, plots, spectrogram, training
from ddslib.config import load_profile
from ddslib.experiment import Workspace
from ddslib.flows import RealNVP, standard_normal_log_density
from ddslib.frames import Frames
from ddslib.fused import SELU
from ddslib.layers import MLP, Coupling, Permutation

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
experiment = workspace.experiment("dds2", seed=seed)
front_end, pitches = profile.front_end, profile.pitches
device = workspace.device

# %% [markdown]
# ## Entries and codes
#
# In NMF a dictionary entry is a column of $\mathbf{W}$: a spectrum that somebody recorded. There are as many as were
# stored, and nothing between them. Here an entry is *computed* instead, from a *code*:
#
# $$ \mathbf{w} = g(\mathbf{z}) $$
#
# The code $\mathbf{z}$ is a list of numbers, and the function $g$ belongs to one note. Change the code a little, and
# the entry changes a little. So one can search for the entry that fits, by its gradient: that is what
# {doc}`04_dds1` does. For this the function should have three properties.
#
# * Every spectrum has a code: $g$ can be inverted, $\mathbf{z} = f(\mathbf{x})$ with $f = g^{-1}$.
# * It is known how likely each spectrum is to come from that note.
# * Spectra of that note have codes that are not far out. A search that stays near zero stays among spectra of that note.
#
# A *normalizing flow* is such a function. In this book $\mathbf{x}$ is one frame, a spectrum of $K$ bins, and its code has
# $K$ numbers too.
#
# ## One dimension first
#
# Draw $z$ from the standard normal distribution, and send it through an invertible $g$. How dense are the results? Where
# $g$ stretches, they get thinner, by as much as it stretches. With $f = g^{-1}$,
#
# $$ p(x) = \mathcal{N}(f(x); 0, 1) \left| \frac{df}{dx} \right|. $$
#
# This is the *change of variables*, and it is all of the theory. For example $g(z) = e^{z / 2}$:


# %%
def g(z: Tensor) -> Tensor:
    return (z / 2).exp()


def f(x: Tensor) -> Tensor:
    return 2 * x.log()


def density(x: Tensor) -> Tensor:
    log_slope = (2 / x).log()  # of f
    return (standard_normal_log_density(f(x)[..., None]) + log_slope).exp()


x = torch.linspace(0.01, 20, 100_000)
total = torch.trapezoid(density(x), x)
print(f"the density sums to {total:.3f}")
assert abs(total - 1) < 1e-3

draws = g(torch.randn(100_000, generator=torch.Generator().manual_seed(0)))
counted = (draws < 0.8).float().mean()
integrated = torch.trapezoid(density(x[x < 0.8]), x[x < 0.8])
print(f"draws below 0.8: {counted:.3f} counted, {integrated:.3f} by the formula")
assert abs(counted - integrated) < 0.01

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A bell curve sent through an exponential. The bars count 100 000 draws, the line is the change of variables.", "name": "fig-change-of-variables"}, "image": {"alt": "Left, a symmetric bell curve over the code z. Right, a skewed histogram over x with a steep left side and a long right tail, on which a smooth line lies exactly."}}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6))
z = torch.linspace(-4, 4, 200)
axes[0].plot(z, standard_normal_log_density(z[:, None]).exp())
axes[0].set(xlabel="code z", ylabel="density", ylim=(0, None))
axes[1].hist(draws, bins=200, range=(0, 4), density=True, color=plots.MISSED, alpha=0.6)
axes[1].plot(x[x < 4], density(x[x < 4]))
axes[1].set(xlabel="x = g(z)", ylabel="density", xlim=(0, 4))
plt.show()

# %% [markdown]
# ## Many dimensions: the affine coupling
#
# With $K$ numbers, the slope becomes the determinant of the Jacobian matrix. In logarithms:
#
# $$ \log p(\mathbf{x}) = \log \mathcal{N}(f(\mathbf{x}); 0, \mathbf{I})
#    + \log \left| \det \frac{\partial f}{\partial \mathbf{x}} \right| $$
#
# Natural logarithms are in *nats*. The trouble is the determinant. For a function at will it costs about $K^3$ operations, in every
# training step. So $f$ is made of steps whose determinant is easy. The step of RealNVP {cite}`dinh2017` is the
# *affine coupling*. It splits $\mathbf{x}$ into halves. The first half stays as it is, and decides how the second is
# scaled and shifted:
#
# $$ \mathbf{y}_1 = \mathbf{x}_1, \qquad \mathbf{y}_2 = \mathbf{x}_2 \cdot e^{\mathbf{s}} + \mathbf{t}, \qquad
#    (\tilde{\mathbf{s}}, \mathbf{t}) = \mathrm{MLP}(\mathbf{x}_1), \qquad \mathbf{s} = \tanh \tilde{\mathbf{s}} $$
#
# The network may be any; here it is a few dense layers with the activation SELU {cite}`klambauer2017`. Nobody ever has to
# invert it, since $\mathbf{x}_1$ is still there on the way back. And
# $\mathbf{y}_2$ depends on $\mathbf{x}_2$ number by number, so the log-determinant is $\sum_i s_i$.


# %%
def mlp(x1: Tensor, layers: MLP) -> Tensor:
    *hidden, (last, last_bias) = zip(layers.weights, layers.biases, strict=True)
    for weight, bias in hidden:
        x1 = torch.selu(x1 @ weight + bias)
    return x1 @ last + last_bias


def couple(x: Tensor, layers: MLP, bound=torch.tanh) -> tuple[Tensor, Tensor]:
    x1, x2 = x.chunk(2, dim=-1)
    s, t = mlp(x1, layers).chunk(2, dim=-1)
    s = bound(s)
    return torch.cat([x1, x2 * s.exp() + t], dim=-1), s.sum(dim=-1)


def uncouple(y: Tensor, layers: MLP) -> Tensor:
    y1, y2 = y.chunk(2, dim=-1)
    s, t = mlp(y1, layers).chunk(2, dim=-1)
    return torch.cat([y1, (y2 - t) * (-s.tanh()).exp()], dim=-1)


generator = torch.Generator().manual_seed(0)
coupling = Coupling(8, [16, 16], SELU, generator).requires_grad_(False)
coupling.mlp.weights[-1].mul_(100)  # a fresh one hardly does anything yet
x = torch.randn(5, 8, generator=generator)
y, log_det = couple(x, coupling.mlp)

assert torch.allclose(uncouple(y, coupling.mlp), x, atol=1e-5)
y_library, log_det_library = coupling(x)
assert torch.allclose(y, y_library, atol=1e-6)
assert torch.allclose(uncouple(y, coupling.mlp), coupling.inverse(y), atol=1e-6)
assert torch.allclose(log_det, log_det_library, atol=1e-6)
print(f"moved by up to {(y - x).abs().max():.3g}, and back again")

# %% [markdown]
# Is the sum of $s$ really the log-determinant? At this size the whole Jacobian can be had from automatic
# differentiation.

# %%
jacobian = torch.autograd.functional.jacobian(
    lambda v: couple(v[None], coupling.mlp)[0][0], x[0]
)
sign, from_jacobian = torch.linalg.slogdet(jacobian)
print(f"sum of s {log_det[0]:.3f}; log |det| of the Jacobian {from_jacobian:.3f}")
assert torch.isclose(log_det[0], from_jacobian, atol=1e-4)

# %% [markdown]
# The library's coupling has two more numbers to learn, $\mathbf{s} = a \tanh \tilde{\mathbf{s}} + b$, at first 1 and 0.
# It computes the same in fewer passes over memory, with a gradient that is worked out by hand ({mod}`ddslib.fused`).
#
# **Why the tanh?** In a chain, the output of one step goes into the next step's network. A large value makes a large
# $\tilde{s}$, and that makes a value larger by its exponential. Here 16 steps are chained whose last weights are enlarged, as by
# training (those of a fresh step are so small that it does next to nothing), once with the bound and once without:

# %%
size, count = 64, 16
layers = RealNVP(1, size, count, [64, 64], generator).requires_grad_(False).layers
for layer in layers[1::2]:
    layer.mlp.weights[-1].mul_(40)


def largest_values(bound) -> list[float]:
    """The largest magnitude after each step, starting from normal noise."""
    x = torch.randn(1, 256, size, generator=torch.Generator().manual_seed(1))
    largest = []
    for permutation, coupling in zip(layers[::2], layers[1::2], strict=True):
        x, _ = couple(permutation(x)[0], coupling.mlp, bound)
        largest.append(float(x.abs().max()))
    return largest


bounded, unbounded = largest_values(torch.tanh), largest_values(lambda s: s)
finite = int(np.isfinite(unbounded).sum())
print(f"bounded: at most {bounded[-1]:.3g} after {count} steps")
print(f"unbounded: beyond the range of numbers in step {finite + 1}")
assert np.isfinite(bounded).all()
assert finite < count

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The largest value in a batch after each of 16 untrained steps with enlarged weights. Without a bound it leaves the range of the number format; the axis is logarithmic.", "name": "fig-tanh"}, "image": {"alt": "Two curves over the number of steps on a logarithmic axis. The one with tanh grows moderately in a straight line; the one without shoots up and breaks off."}}
figure, ax = plt.subplots(figsize=(6, 2.8))
ax.semilogy(range(1, count + 1), bounded, "o-", markersize=3, label="s = tanh s̃")
ax.semilogy(range(1, finite + 1), unbounded[:finite], "o-", markersize=3, label="s = s̃")
ax.set(xlabel="steps", ylabel="largest magnitude", xlim=(0.5, count + 0.5))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# **Why permutations?** A coupling leaves one half alone. So before each coupling the numbers are put in another order:
# random, drawn once, fixed from then on. The determinant of a permutation is $\pm 1$, so nothing is added to the sum.

# %% [markdown]
# ## All notes in one stack
#
# Now the real ones. The workspace has trained a flow for each note, on the frames of {doc}`02_nmf` for that note alone.

# %%
trained = workspace.flow("note_flows", experiment.instrument, experiment.seed)
flow = trained.flow.freeze()
frames = workspace.frames(without=experiment.instrument)
M, K = frames.values.shape
N = flow.n_sources
recipe = profile.note_flows
widths = " + ".join(map(str, recipe.hidden))
print(f"{N} flows of {recipe.steps} steps; K = {K}; networks of {widths} hidden units")
print(f"{flow.size() / N:.3g} numbers to learn for each note, {flow.size():.3g} in all")

# %%
moved = torch.zeros(K, dtype=torch.bool, device=device)
left = []
for layer in flow.layers:
    if isinstance(layer, Permutation):
        moved = moved[layer.order]
    else:
        moved[K // 2 :] = True
        left.append(int((~moved).sum()))
print("numbers that no coupling has touched yet, by step:", *left)

# %% [markdown]
# The last of them says how many bins pass through all steps as they are. Their code is their value, whatever the training does. More
# steps would leave none.

# %% [markdown]
# Notes do not know of each other, but they are computed together. Weights and batches have the notes as their first
# axis. The stack is its flows one by one:

# %%
chosen = N // 2
name = librosa.midi_to_note(pitches.numbers[chosen])
x = torch.from_numpy(frames.values[frames.sources == chosen]).to(device)
together = flow.log_prob(
    x.expand(N, -1, -1)
)  # of all notes' flows for frames of one note
one = flow.take([chosen]).freeze()
assert torch.allclose(together[chosen], one.log_prob(x[None])[0], rtol=1e-4, atol=0.1)

codes = one(x[None])[0]
back = one.inverse(codes)[0]
print(
    f"{name}: to the codes of {len(x)} frames and back, off by {(back - x).abs().max():.0e}"
)
assert torch.allclose(back, x, atol=1e-3)

# %% [markdown]
# ## Training
#
# A flow is trained by maximum likelihood. The loss is the mean negative log-likelihood of a batch of $B$ frames, in
# nats a frame, so *summed* over the $K$ bins:
#
# $$ L = -\frac{1}{B} \sum_{b=1}^{B} \log p(\mathbf{x}_b) $$
#
# Densities have no upper limit of 1. So the loss may well be negative; only differences mean something.
#
# A share of the frames is kept apart for validation, and it is drawn by *recording*. The frames of one recording look
# alike. Were they on both sides, validation would ask what was just learnt by heart.

# %%
validation = frames.validation(profile.training, experiment.seed)
own = frames.sources == chosen
sides = [set(frames.recordings[own & side]) for side in (~validation, validation)]
if profile.training.split == "recording":
    assert not sides[0] & sides[1]
print(f"{name}: {len(sides[0])} recordings to train on, {len(sides[1])} to validate with")

# %% [markdown]
# After each epoch the validation loss is measured. Each note keeps the weights of *its* best epoch.

# %%
x = torch.from_numpy(frames.values[own & validation]).to(device)
loss = -one.log_prob(x[None]).mean()
print(f"{name}: validation loss {loss:.1f} nats a frame")
assert np.isclose(float(loss), float(trained.best_losses[chosen]), rtol=1e-3)

losses = trained.history["validation"]
best = losses.nan_to_num(torch.inf).argmin(dim=0) + 1
print(f"epochs {len(losses)}; the best one of a note: {best.min()} to {best.max()}")
assert (trained.best_losses < losses[0]).all()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The losses of all notes by epoch; the thick lines are means. The training loss is taken of noisy frames (below) and while weights still change, so it need not lie below the other.", "name": "fig-note-flow-training"}, "image": {"alt": "Two bundles of thin falling curves, one for training and one for validation, each with a thick mean; both fall steeply at first and then ever more slowly."}}
figure, ax = plt.subplots(figsize=(7, 3.2))
plots.training_history(ax, trained.history)
plt.show()

# %% tags=["nbval-ignore-output"]
print(f"trained in {trained.seconds:.0f} s; there are {M} frames")

# %% [markdown]
# These are small flows, trained in a minute or so. The paper's have 16 steps with networks of four layers
# {cite}`martak2021`, and are trained for up to 2500 epochs {cite}`martak2022`. Where the curves still fall at the right edge, more would help.
#
# ## The training noise
#
# Some bins hardly change over the frames of a note: those between the partials, and those above the last one. A
# density that is narrow there is rewarded, and there is no limit to it. A bin that were truly constant could have any likelihood.
#
# So every training frame gets fresh normal noise, of deviation $\sigma$. Now the limit is known. No density describes
# noisy data better, on average, than the noise itself could be described if everything else were known. Its entropy is the least loss:
#
# $$ L \ge \frac{K}{2} \log(2 \pi e \sigma^2) $$
#
# We train two notes with three noises, and otherwise with the profile's recipe; fewer epochs are enough to see it.

# %%
pair = [0, chosen]
pair_rows = np.flatnonzero(np.isin(frames.sources, pair))
few = Frames(
    values=frames.values[pair_rows],
    sources=np.searchsorted(pair, frames.sources[pair_rows]),  # 0 and 1
    recordings=frames.recordings[pair_rows],
    names=frames.names,
    content="two notes",
)
sigmas = [0.0, 0.005, 0.02]
trials = {}
for sigma in sigmas:
    changed = replace(recipe, noise=sigma, epochs=20, patience=20)
    trials[sigma] = training.train(
        changed, few, validation[pair_rows], len(pair), experiment.seed, device
    )

finals, bounds = {}, {}
for sigma, trial in trials.items():
    finals[sigma] = float(trial.history["training"][-1].mean())
    bounds[sigma] = -np.inf
    if sigma:
        bounds[sigma] = K / 2 * np.log(2 * np.pi * np.e * sigma**2)
    print(f"σ = {sigma:g}: training loss {finals[sigma]:.0f}, bound {bounds[sigma]:.0f}")
    assert finals[sigma] > bounds[sigma]
assert finals[0.0] < finals[0.005] < finals[0.02]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training losses with three noises; dotted, the bounds. Without noise there is none, and the loss keeps falling.", "name": "fig-noise-loss"}, "image": {"alt": "Three falling curves over epochs. The one with most noise flattens above its dotted bound, the one with less noise flattens lower, and the one without noise falls on."}}
colours = dict(zip(sigmas, (plots.WRONG, plots.MISSED, plots.RIGHT), strict=True))
figure, ax = plt.subplots(figsize=(7, 3))
for sigma, trial in trials.items():
    curve = trial.history["training"].mean(dim=1)
    ax.plot(
        np.arange(1, len(curve) + 1), curve, color=colours[sigma], label=f"σ = {sigma:g}"
    )
    if sigma:
        ax.axhline(bounds[sigma], color=colours[sigma], linestyle=":")
ax.set(xlabel="epoch", ylabel="training loss (nats a frame)")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# What does the flow do with the missing noise? The singular values of $\partial g / \partial \mathbf{z}$ say how far the
# spectrum moves in each direction when the code moves by 1. We take them at a validation frame. And we ask what the flow says when that frame
# is moved a little, at random, by 0.02 in each bin.

# %%
x = torch.from_numpy(few.values[validation[pair_rows] & (few.sources == 1)]).to(device)
nudge = 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(device)
stretch, drop = {}, {}
for sigma, trial in trials.items():
    small = trial.flow.take([1]).freeze()
    middle = small(x[None])[0][0, len(x) // 2]
    jacobian = torch.autograd.functional.jacobian(
        lambda z, small=small: small.inverse(z[None, None])[0, 0], middle
    )
    stretch[sigma] = torch.linalg.svdvals(jacobian).cpu()
    drop[sigma] = float(
        (small.log_prob(x[None]) - small.log_prob((x + nudge)[None])).mean()
    )
    print(f"σ = {sigma:g}: a nudge costs {drop[sigma]:.3g} nats")
assert drop[0.0] > drop[0.02]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far a spectrum moves, by direction, when its code moves by 1. Dotted: the noise. Without it, many directions are all but frozen.", "name": "fig-noise-stretch"}, "image": {"alt": "Three falling curves of singular values on a logarithmic axis. With noise most of the curve stays near the dotted line of that noise; without noise it falls far below."}}
figure, ax = plt.subplots(figsize=(7, 3))
for sigma, values in stretch.items():
    ax.semilogy(values, color=colours[sigma], label=f"σ = {sigma:g}")
    if sigma:
        ax.axhline(sigma, color=colours[sigma], linestyle=":")
ax.set(xlabel="direction, sorted", ylabel="singular value of ∂g/∂z")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Without noise the flow takes the recordings at their word, down to differences that nobody hears. The pianos of the test
# differ by more than that. The paper mentions no noise, and the released code {cite}`ddscode` adds none; it is a choice of this
# book, and one number of the profile.

# %% [markdown]
# ## What a flow would play
#
# A flow can be asked for new spectra: draw a code from the prior, decode it. Is what comes out a spectrum? No compressed
# magnitude is much above 1. We count the samples that go beyond 2 anywhere.


# %%
def spread_over(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, count).astype(int)]


def wild(spectra: Tensor) -> float:
    """The share of spectra (..., K) that go beyond 2."""
    return float((spectra.abs().amax(dim=-1) > 2).float().mean())


count = 100
rows = [spread_over(np.flatnonzero(frames.sources == n), count) for n in range(N)]
real = torch.from_numpy(frames.values[np.stack(rows)]).to(device)
draws = torch.Generator(device).manual_seed(0)
sampled = flow.sample(count, draws)
print(f"wild among real frames {wild(real):.3f}, among samples {wild(sampled):.3f}")

# %% [markdown]
# Where there are many wild samples, the prior promises more than this flow holds. If it were perfect, the codes of
# real frames would be standard normal, of deviation 1 in every one of the $K$ numbers. They need not be.

# %%
codes = flow(real)[0]
mean, deviation = codes.mean(dim=1, keepdim=True), codes.std(dim=1, keepdim=True)
low, middle, high = np.quantile(deviation.cpu(), [0.05, 0.5, 0.95])
print(
    f"deviation of real codes: {middle:.2f}; nine in ten between {low:.2f} and {high:.2f}"
)

# %% [markdown]
# A direction in which real codes hardly spread is one that the flow was never asked about. Going one unit along it
# leaves everything that was learnt. So we draw again, number by number with the mean and deviation
# that the real codes have.

# %%
unit = torch.randn(codes.shape, generator=draws, device=device)
near = flow.inverse(mean + deviation * unit)
print(f"wild among samples near real codes {wild(near):.3f}")
assert wild(near) <= wild(sampled)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Real frames, samples from the prior, and samples drawn where real codes lie, sorted by pitch. Negative values are cut off, as every dictionary does.", "name": "fig-flow-samples"}, "image": {"alt": "Three images of spectra one above the other, sorted by pitch. The real frames show clear rising partials; samples of the prior hardly show them, and many of their columns are saturated; samples near real codes show them clearly, but darker."}}
figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True)
some = max(600 // N, 5)
labels = np.repeat(np.arange(N), some)
for ax, title, spectra in zip(
    axes,
    ["real frames", "samples of the prior", "samples near real codes"],
    [real[:, :: count // some][:, :some], sampled[:, :some], near[:, :some]],
    strict=True,
):
    W = spectra.clamp(0, 0.8).flatten(0, 1).T
    plots.dictionary(ax, W, labels[: W.shape[1]], front_end, pitches)
    ax.set_title(title)
    ax.label_outer()
plt.show()

# %% [markdown]
# This matters for what comes later. A search that moves codes freely can leave the spectra of a note, even with codes
# that the prior finds quite likely. The likelihood in the cost is a fence, and it is only as good as the flow.
#
# ## The mode
#
# The code that all searches start from is zero, the mode of the prior. Its entry should be a typical spectrum of the
# note.

# %%
modes = flow.inverse(torch.zeros(N, 1, K, device=device))[:, 0]
means = real.mean(dim=1)
nearest = torch.cdist(modes, means).argmin(dim=1)
right = float((nearest == torch.arange(N, device=device)).float().mean())
print(f"share of modes that are closest to the mean of their own note: {right:.3f}")
assert right > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One note: the spectrum with code zero, the mean of its frames, and one of its frames.", "name": "fig-flow-mode"}, "image": {"alt": "Three spectra of one note over frequency with peaks at the same partials: a real frame, the mean of all frames and the decoded code zero, whose peaks are about half as high as the mean's, with some stray spikes, also below zero."}}
figure, ax = plt.subplots(figsize=(9, 3))
frame = real[chosen, count // 2]
plots.spectrum(ax, frame, front_end, label="a frame", color=plots.MISSED, alpha=0.7)
plots.spectrum(ax, means[chosen], front_end, label="mean of frames", color=plots.INK)
plots.spectrum(ax, modes[chosen], front_end, label="code zero", color=plots.WRONG)
ax.set_title(name)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A walk
#
# Two frames of one note: soft on one piano, loud on another. We go from one to the other, on a straight line in either
# of two spaces:
#
# $$ \mathbf{x}_\alpha = g\big((1 - \alpha)\, f(\mathbf{a}) + \alpha f(\mathbf{b})\big) \qquad \text{or} \qquad
#    \mathbf{x}_\alpha = (1 - \alpha)\, \mathbf{a} + \alpha\, \mathbf{b} $$
#
# The second is a plain cross-fade. That, louder or softer, is all that NMF can do with these two entries.


# %%
def early_frame(loudness: str, instrument: str) -> Tensor:
    """An early frame (K,) of the chosen note."""
    mark = f"_{loudness}_"
    for recording in np.unique(frames.recordings[own]):
        full = frames.names[recording]
        if mark in full and full.endswith(f"_{instrument}"):
            return torch.from_numpy(frames.values[frames.recordings == recording][2])
    raise LookupError(f"no {loudness} recording of {name} on {instrument}")


pianos = sorted({full.split("_")[-1] for full in frames.names})
a = early_frame("P", pianos[-1]).to(device)
b = early_frame("F", pianos[0]).to(device)
alpha = torch.linspace(0, 1, 61, device=device)[:, None]
codes = one(torch.stack([a, b])[None])[0][0]
walks = {
    "code": one.inverse(((1 - alpha) * codes[0] + alpha * codes[1])[None])[0],
    "spectrum": (1 - alpha) * a + alpha * b,
}
assert torch.allclose(walks["code"][[0, -1]], torch.stack([a, b]), atol=1e-3)
print(f"from a soft {name} of {pianos[-1]} to a loud one of {pianos[0]}")
for space, walk in walks.items():
    halfway = one.log_prob(walk[None])[0, len(alpha) // 2]
    print(f"straight in the {space}: halfway {halfway / K:.2f} nats a dimension")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Two walks between the same two spectra, from left to right, and how likely the flow finds the spectra on the way.", "name": "fig-walk"}, "image": {"alt": "Two images with horizontal partials that grow from left to right, nearly alike; below, two curves of log-likelihood that start and end together and differ in between."}}
figure, axes = plt.subplots(3, 1, figsize=(9, 8), height_ratios=(3, 3, 2))
highest = float(torch.maximum(a, b).max())
top = spectrogram.frequencies(front_end)[-1] / 1000
for ax, (space, walk) in zip(axes, walks.items(), strict=False):
    image = ax.imshow(
        walk.T.cpu(),
        origin="lower",
        aspect="auto",
        extent=(0, 1, 0, top),
        vmin=0,
        vmax=highest,
    )
    ax.set(title=f"straight in the {space}", xlabel="α", ylabel="frequency (kHz)")
    figure.colorbar(image, ax=ax, label="X")
    likelihood = one.log_prob(walk[None])[0].cpu() / K
    axes[2].plot(alpha[:, 0].cpu(), likelihood, label=f"straight in the {space}")
axes[2].set(xlabel="α", ylabel="log p (nats a dimension)", xlim=(0, 1))
axes[2].legend(frameon=False)
plt.show()

# %% [markdown]
# **By ear.** A spectrogram has no phases. The method of Griffin and Lim finds some that fit: it starts from random ones and
# goes back and forth between sound and spectrogram. `synthesise` first expands the compression of {doc}`01_spectrograms`, and sets
# the bins that are not modelled to silence. A frame that is repeated becomes a steady sound, without a piano's
# decay.

# %%
held = {
    "the soft frame, held": a.expand(61, -1),
    "the loud frame, held": b.expand(61, -1),
}
walked = {f"straight in the {space}": walk for space, walk in walks.items()}
sounds = {}
for caption, walk in (held | walked).items():
    sounds[caption] = spectrogram.synthesise(walk.T.cpu(), front_end)
heard = spectrogram.spectrogram(sounds["the loud frame, held"], front_end)[:, :61]
error = metrics.relative_error(b[:, None].expand(-1, 61).cpu(), heard)
print(f"relative error of the spectrogram that is heard: {error:.3f}")
plots.players(sounds, front_end.sample_rate)

# %% [markdown]
# ## Does a flow know its note?
#
# The likelihood should tell notes apart. We ask every flow about validation frames of every note. A
# row is a note that was played, a column is a flow.

# %%
bounded = 20  # frames of each note
likelihood = torch.zeros(N, N)
wins = 0
for n in range(N):
    rows = spread_over(np.flatnonzero((frames.sources == n) & validation), bounded)
    x = torch.from_numpy(frames.values[rows]).to(device)
    per_flow = flow.log_prob(x.expand(N, -1, -1)) / K  # (N flows, frames)
    likelihood[n] = per_flow.mean(dim=1).cpu()
    wins += int((per_flow.argmax(dim=0) == n).sum())
print(f"the right flow wins {wins / (N * bounded):.3f} of the frames; chance {1 / N:.3f}")
assert wins / (N * bounded) > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean log-likelihood of validation frames under every note's flow. The colours end at the lower tenth; what is below is as dark.", "name": "fig-flow-matrix"}, "image": {"alt": "A square image by pitch of the frame and pitch of the flow. The diagonal is bright, everything off it is darker."}}
figure, ax = plt.subplots(figsize=(6, 4.8))
floor = float(likelihood.quantile(0.1))
label = "log p (nats a dimension)"
plots.pitch_matrix(ax, likelihood, pitches, label, vmin=floor)
ax.set(xlabel="flow of", ylabel="frames of")
plt.show()

# %% [markdown]
# This is not yet a transcription. Here one note sounds at a time, and it is known that it does. In a mixture no frame is likely under
# any flow: the spectra have to be found of which it is made.

# %% [markdown]
# ## What was learnt
#
# * A flow is an invertible function from codes to spectra. Its density follows from the change of variables.
# * A coupling is cheap to invert and has a log-determinant that is a sum. Bounding its scale keeps the chain finite.
# * Near-constant bins make the likelihood unbounded; noise of a stated size bounds it.
# * Near the codes of real frames a flow decodes to spectra of its note. Far from them it may decode to anything, also where its prior
#   is high.
# * The flow of the right note is usually the one that finds a frame most likely.
#
# **Next:** {doc}`04_dds1` puts these functions in the place of NMF's stored dictionary.
