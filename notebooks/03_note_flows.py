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
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"note_flows.epochs": 80}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
seed = None  # of the training; None leaves it to the profile

# %% tags=["hide-input"]
from dataclasses import replace

from ddslib import measures
from ddslib.flows.flow import standard_normal_log_density
from ddslib.flows.fused import SELU
from ddslib.flows.layers import Coupling
from ddslib.flows.realnvp import RealNVP
from ddslib.flows.training import train
from ddslib.pages import plots
from ddslib.pages.chapter import open_chapter
from ddslib.pages.flows import NoteFrames, share_of_wild, show_by_noise, show_by_note
from ddslib.pages.players import players
from ddslib.spectra import spectrogram

import librosa
import numpy as np
import pandas as pd
import torch
from torch.autograd.functional import jacobian

workspace = open_chapter(globals())
profile, device = workspace.profile, workspace.device
front_end, pitches, recipe = profile.front_end, profile.pitches, profile.note_flows

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
# * It says how likely each spectrum is to come from that note.
# * Spectra of that note have codes near zero. A search that stays near zero stays among spectra of that note.
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
def g(z):
    return (z / 2).exp()


def f(x):
    return 2 * x.log()


def density(x):
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
with plots.shown(8, 2.6, 1, 2) as (left, right):
    z = torch.linspace(-4, 4, 200)
    left.plot(z, standard_normal_log_density(z[:, None]).exp())
    left.set(xlabel="code z", ylabel="density", ylim=(0, None))
    right.hist(draws, bins=200, range=(0, 4), density=True, color=plots.MISSED, alpha=0.6)
    right.plot(x, density(x))
    right.set(xlabel="x = g(z)", ylabel="density", xlim=(0, 4))

# %% [markdown]
# ## Many dimensions: the affine coupling
#
# With $K$ numbers, the slope becomes the determinant of the Jacobian matrix. In logarithms:
#
# $$ \log p(\mathbf{x}) = \log \mathcal{N}(f(\mathbf{x}); 0, \mathbf{I})
#    + \log \left| \det \frac{\partial f}{\partial \mathbf{x}} \right| $$
#
# Natural logarithms are in *nats*. The trouble is the determinant. For an arbitrary function it costs about $K^3$ operations, in every
# training step. So $f$ is made of steps whose determinant is easy. The step of RealNVP {cite}`dinh2017` is the
# *affine coupling*. It splits $\mathbf{x}$ into halves. The first half stays as it is, and decides how the second is
# scaled and shifted:
#
# $$ \mathbf{y}_1 = \mathbf{x}_1, \qquad \mathbf{y}_2 = \mathbf{x}_2 \cdot e^{\mathbf{s}} + \mathbf{t}, \qquad
#    (\tilde{\mathbf{s}}, \mathbf{t}) = \mathrm{MLP}(\mathbf{x}_1), \qquad \mathbf{s} = \tanh \tilde{\mathbf{s}} $$
#
# Any network will do. Here it is a few dense layers with the activation SELU {cite}`klambauer2017`. It never has to be
# inverted, since $\mathbf{x}_1$ is still there on the way back. Given $\mathbf{x}_1$, each number of $\mathbf{y}_2$
# depends on one number of $\mathbf{x}_2$ only, so the log-determinant is $\sum_i s_i$.


# %%
def scale_and_shift(x1, mlp, bound=torch.tanh):
    *hidden, (last, last_bias) = zip(mlp.weights, mlp.biases, strict=True)
    for weight, bias in hidden:
        x1 = torch.selu(x1 @ weight + bias)
    s, t = (x1 @ last + last_bias).chunk(2, dim=-1)
    return bound(s), t


def couple(x, mlp, bound=torch.tanh):
    x1, x2 = x.chunk(2, dim=-1)
    s, t = scale_and_shift(x1, mlp, bound)
    return torch.cat([x1, x2 * s.exp() + t], dim=-1), s.sum(dim=-1)


def uncouple(y, mlp):
    y1, y2 = y.chunk(2, dim=-1)
    s, t = scale_and_shift(y1, mlp)
    return torch.cat([y1, (y2 - t) * (-s).exp()], dim=-1)


generator = torch.Generator().manual_seed(0)
coupling = Coupling(8, [16, 16], SELU, generator).requires_grad_(False)
coupling.mlp.weights[-1].mul_(100)  # a fresh one hardly does anything yet
x = torch.randn(5, 8, generator=generator)
y, log_det = couple(x, coupling.mlp)
back = uncouple(y, coupling.mlp)

assert torch.allclose(back, x, atol=1e-5)
torch.testing.assert_close(coupling(x), (y, log_det))  # the library's gives the same
torch.testing.assert_close(coupling.inverse(y), back)
print(f"moved by up to {(y - x).abs().max():.3g}, and back again")

# %% [markdown]
# Is the sum of $s$ really the log-determinant? At this size automatic differentiation gives the whole Jacobian.

# %%
J = jacobian(lambda v: couple(v[None], coupling.mlp)[0][0], x[0])
from_jacobian = J.slogdet().logabsdet
print(f"sum of s {log_det[0]:.3f}; log |det| of the Jacobian {from_jacobian:.3f}")
assert torch.isclose(log_det[0], from_jacobian, atol=1e-4)

# %% [markdown]
# The library's coupling has two more numbers to learn, $\mathbf{s} = a \tanh \tilde{\mathbf{s}} + b$, at first 1 and 0.
# It computes the same in fewer passes over memory, with a gradient that is worked out by hand ({mod}`ddslib.flows.fused`).
#
# **Why the tanh?** In a chain, the output of one step goes into the next step's network. A large value makes a large
# $\tilde{s}$, and other values are multiplied by its exponential. Here 16 steps are chained, once with the bound and once
# without. Their last weights are enlarged, as by training, since a fresh step does next to nothing.

# %%
count = 16
layers = RealNVP(1, 64, count, [64, 64], generator).requires_grad_(False).layers
couplings = layers[1::2]  # a permutation before each
for coupling in couplings:
    coupling.mlp.weights[-1].mul_(40)


def largest_values(bound):
    """The largest magnitude after each step, starting from normal noise."""
    x = torch.randn(1, 256, 64, generator=torch.Generator().manual_seed(1))
    largest = []
    for permutation, coupling in zip(layers[::2], couplings, strict=True):
        x, _ = couple(permutation(x)[0], coupling.mlp, bound)
        largest.append(float(x.abs().max()))
    return largest


bounded, unbounded = largest_values(torch.tanh), largest_values(lambda s: s)
finite = np.isfinite(unbounded).sum()
print(f"bounded: at most {bounded[-1]:.3g} after {count} steps")
print(f"unbounded: beyond the range of numbers in step {finite + 1}")
assert np.isfinite(bounded).all()
assert finite < count

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The largest value in a batch after each of 16 untrained steps with enlarged weights. Without a bound it leaves the range of the number format; the axis is logarithmic.", "name": "fig-tanh"}, "image": {"alt": "Two curves over the number of steps on a logarithmic axis. The one with tanh grows moderately in a straight line; the one without shoots up and breaks off."}}
steps = pd.DataFrame({"s = tanh s̃": bounded, "s = s̃": unbounded}, range(1, count + 1))
with plots.shown(6, 2.8) as ax:
    steps.plot(ax=ax, style=".-", logy=True, xlabel="steps", ylabel="largest magnitude")
    ax.set_xlim(0.5, count + 0.5)

# %% [markdown]
# **Why permutations?** A coupling leaves one half alone. So before each coupling the numbers are put in another order. It is
# random, drawn once and then fixed. The determinant of a permutation is $\pm 1$, so nothing is added to the sum.
#
# ## All notes in one stack
#
# Now the real flows. The workspace has trained a flow for each note, on the frames of {doc}`02_nmf` for that note alone.

# %%
piano = workspace.instruments.test[0]
frames = NoteFrames(workspace, piano, profile.seed)
trained = workspace.flow("note_flows", piano)
flow = trained.flow.freeze()
N, K = flow.n_sources, flow.dimensions
print(
    f"{N} flows of {recipe.steps} steps; K = {K};",
    f"networks of {' + '.join(map(str, recipe.hidden))} hidden units",
)
print(f"{flow.size() / N:.3g} numbers to learn for each note, {flow.size():.3g} in all")

# %%
untouched = torch.ones(K, dtype=torch.bool, device=device)
left = []
for permutation in flow.layers[::2]:  # a coupling follows each
    untouched = untouched[permutation.order]
    untouched[K // 2 :] = False
    left.append(int(untouched.sum()))
print("numbers that no coupling has touched yet, by step:", *left)

# %% [markdown]
# The last number says how many bins pass through all steps unchanged. Their code is their value, whatever the training
# does. More steps would leave none.
#
# The flows of the notes are independent of each other, but they are computed together. Weights and batches have the notes
# as their first axis. The stack gives what each flow gives alone:

# %%
chosen = N // 2
name = librosa.midi_to_note(pitches.numbers[chosen])
own = frames.sources == chosen
x = frames[own][None]  # for a stack of one flow
one = flow.select([chosen]).freeze()
together = flow.log_prob(x.expand(N, -1, -1))  # frames of one note, under all flows
assert torch.allclose(together[[chosen]], one.log_prob(x), rtol=1e-4, atol=0.1)

codes, _ = one(x)
off = (one.inverse(codes) - x).abs().max()
print(f"{name}: to the codes of {own.sum()} frames and back, off by {off:.0e}")
assert off < 1e-3

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
# alike. If they were on both sides, validation would ask for what was learnt by heart.

# %%
validation, stored = frames.held_out, frames.stored
seen, unseen = (set(stored.recordings[own & side]) for side in (~validation, validation))
if profile.training.split == "recording":
    assert not seen & unseen
print(f"{name}: {len(seen)} recordings to train on, {len(unseen)} to validate with")

# %% [markdown]
# After each epoch the validation loss is measured. Each note keeps the weights of *its* best epoch.

# %%
x = frames[own & validation][None]
loss = -one.log_prob(x).mean().cpu()
print(f"{name}: validation loss {loss:.1f} nats a frame")
assert torch.isclose(loss, trained.best_losses[chosen], rtol=1e-3)

losses = trained.history["validation"]
best = losses.nan_to_num(torch.inf).argmin(dim=0) + 1
print(f"epochs {len(losses)}; the best one of a note: {best.min()} to {best.max()}")
assert (trained.best_losses < losses[0]).all()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The losses of all notes by epoch; the thick lines are means. The training loss is taken of noisy frames (below) and while weights still change, so it need not lie below the other.", "name": "fig-note-flow-training"}, "image": {"alt": "Two bundles of thin falling curves, one for training and one for validation, each with a thick mean; both fall steeply at first and then ever more slowly."}}
with plots.shown(7, 3.2) as ax:
    plots.training_history(ax, trained.history)

# %% tags=["nbval-ignore-output"]
print(f"trained in {trained.seconds:.0f} s; there are {len(validation)} frames")

# %% [markdown]
# These are small flows, trained in a minute or so. The paper's have 16 steps with networks of four layers
# {cite}`martak2021`, and are trained for up to 2500 epochs {cite}`martak2022`. Where the curves still fall at the right edge, more would help.
#
# ## The training noise
#
# Some bins hardly change over the frames of a note: those between the partials, and those above the last one. A
# density that is narrow there is rewarded, and there is no limit to it. A bin that is truly constant could get any likelihood.
#
# So every training frame gets fresh normal noise, of deviation $\sigma$. Now there is a limit. Even if everything else were
# known, the noise would remain, and on average no density describes it better than its own. So the loss is at least the
# entropy of the noise:
#
# $$ L \ge \frac{K}{2} \log(2 \pi e \sigma^2) $$
#
# We train two notes with three noises, and otherwise with the profile's recipe; fewer epochs are enough to see it.

# %%
pair = np.isin(frames.sources, [0, chosen])
few = replace(
    stored,
    values=stored.values[pair],
    sources=(stored.sources[pair] > 0).astype(int),
    recordings=stored.recordings[pair],
)
flows, bounds, losses = {}, {}, pd.DataFrame(index=range(1, 21))
for sigma in (0.0, 0.005, 0.02):
    noisy = replace(recipe, noise=sigma, epochs=20, patience=20)
    trial = train(noisy, few, validation[pair], 2, profile.seed, device)
    flows[sigma] = trial.flow.select([1]).freeze()
    losses[sigma] = trial.history["training"].mean(dim=1)
    bounds[sigma] = K / 2 * np.log(2 * np.pi * np.e * sigma**2) if sigma else -np.inf
    last = losses[sigma].iloc[-1]
    print(f"σ = {sigma:g}: training loss {last:.0f}, bound {bounds[sigma]:.0f}")
    assert last > bounds[sigma]
assert losses.iloc[-1].is_monotonic_increasing

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training losses with three noises; dotted, the bounds. Without noise there is none, and the loss keeps falling.", "name": "fig-noise-loss"}, "image": {"alt": "Three falling curves over epochs. The one with most noise flattens above its dotted bound, the one with less noise flattens lower, and the one without noise falls on."}}
show_by_noise(
    losses, bounds.values(), xlabel="epoch", ylabel="training loss (nats a frame)"
)

# %% [markdown]
# What does the flow do with the missing noise? The singular values of $\partial g / \partial \mathbf{z}$ say how far the
# spectrum moves in each direction when the code moves by 1. We take them at a validation frame. And we ask how much
# likelihood a validation frame loses when it is moved a little, at random, by 0.02 in each bin.

# %%
nudge = 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(device)
stretch, drop = pd.DataFrame(), {}
for sigma, small in flows.items():
    code = small(x)[0][0, x.shape[1] // 2]
    J = jacobian(lambda z, small=small: small.inverse(z[None, None])[0, 0], code)
    stretch[sigma] = torch.linalg.svdvals(J).cpu()
    drop[sigma] = (small.log_prob(x) - small.log_prob(x + nudge)).mean()
    print(f"σ = {sigma:g}: a nudge costs {drop[sigma]:.3g} nats")
assert drop[0.0] > drop[0.02]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far a spectrum moves, by direction, when its code moves by 1. Dotted: the noise. With it hardly a direction falls below the noise; without it the last ones do.", "name": "fig-noise-stretch"}, "image": {"alt": "Three falling curves of singular values on a logarithmic axis. With noise they end near the dotted line of that noise; without noise the curve ends lower."}}
show_by_noise(
    stretch,
    stretch,
    logy=True,
    xlabel="direction, sorted",
    ylabel="singular value of ∂g/∂z",
)

# %% [markdown]
# Without noise the flow learns the recordings down to differences that nobody hears. The pianos of the test
# differ by more than that. The paper mentions no noise, and the released code {cite}`ddscode` adds none. It is a choice of this
# book, and one number of the profile.
#
# ## What a flow would play
#
# A flow can be asked for new spectra: draw a code from the prior, decode it. Is what comes out a spectrum? No compressed
# magnitude is much above 1. We call samples that go beyond 2 anywhere *wild*, and count them.

# %%
count = 100
real = frames.of_each_note(count)
draws = torch.Generator(device).manual_seed(0)
sampled = flow.sample(count, draws)
print(
    f"wild among real frames {share_of_wild(real):.3f},",
    f"among samples {share_of_wild(sampled):.3f}",
)

# %% [markdown]
# Where many samples are wild, most of the prior is not where the codes of real frames are. If the flow were perfect, those
# codes would be standard normal, with a deviation of 1 in each of the $K$ numbers. They need not be.

# %%
codes = flow(real)[0]
mean, deviation = codes.mean(dim=1, keepdim=True), codes.std(dim=1, keepdim=True)
low, middle, high = np.quantile(deviation.cpu(), [0.05, 0.5, 0.95])
print(
    f"deviation of real codes: {middle:.2f};",
    f"nine in ten between {low:.2f} and {high:.2f}",
)

# %% [markdown]
# In some directions real codes hardly spread, and one unit along such a direction leads away from all that was learnt.
# So we draw again, now each number with the mean and deviation that it has in real codes.

# %%
unit = torch.randn(codes.shape, generator=draws, device=device)
near = flow.inverse(mean + deviation * unit)
print(f"wild among samples near real codes {share_of_wild(near):.3f}")
assert share_of_wild(near) <= share_of_wild(sampled)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Real frames, samples from the prior, and samples drawn where real codes lie, sorted by pitch. Negative values are cut off, as every dictionary does.", "name": "fig-flow-samples"}, "image": {"alt": "Three images of spectra one above the other, sorted by pitch. The real frames show clear rising partials; samples of the prior hardly show them, and many of their columns are saturated; samples near real codes show them clearly, but darker."}}
some = max(600 // N, 5)
show_by_note(
    {
        "real frames": real[:, :: count // some][:, :some],
        "samples of the prior": sampled[:, :some],
        "samples near real codes": near[:, :some],
    },
    profile,
)

# %% [markdown]
# This matters for what comes later. A search that moves codes freely can leave the spectra of a note, even with codes
# that the prior finds quite likely. The likelihood in the cost is there to prevent this, and it is only as good as the flow.
#
# ## The mode
#
# The code that all searches start from is zero, the mode of the prior. Its entry should be a typical spectrum of the
# note.

# %%
modes = flow.inverse(torch.zeros(N, 1, K, device=device))[:, 0]
means = real.mean(dim=1)
nearest = torch.cdist(modes, means).argmin(dim=1).cpu()
right = (nearest == torch.arange(N)).float().mean()
print(f"share of modes that are closest to the mean of their own note: {right:.3f}")
assert right > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One note: the spectrum with code zero, the mean of its frames, and one of its frames.", "name": "fig-flow-mode"}, "image": {"alt": "Three spectra of one note over frequency with peaks at the same partials: a real frame, the mean of all frames and the decoded code zero, whose peaks are about two thirds as high as the mean's, or lower, with some stray spikes, also below zero."}}
with plots.shown(9, 3) as ax:
    plots.spectrum(ax, modes[chosen], front_end, "code zero")
    plots.spectrum(ax, means[chosen], front_end, "mean of frames")
    plots.spectrum(ax, real[chosen, count // 2], front_end, "a frame")
    ax.set_title(name)
    ax.legend()

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


# %% tags=["hide-input"]
def early_frame(loudness, piano):
    """The third frame (K,) of the note's first recording of that loudness and piano."""
    wanted = [f"_{loudness}_" in full and piano in full for full in stored.names]
    return frames[(own & np.array(wanted)[stored.recordings]).argmax() + 2]


pianos = sorted({full.split("_")[-1] for full in stored.names})
ends = torch.stack([early_frame("P", pianos[-1]), early_frame("F", pianos[0])])

# %%
alpha = torch.linspace(0, 1, 61, device=device)[:, None]


def straight(start, end):
    return (1 - alpha) * start + alpha * end


codes = one(ends[None])[0][0]
through_codes = one.inverse(straight(*codes)[None])[0]
assert torch.allclose(through_codes[[0, -1]], ends, atol=1e-3)
walks = {
    "straight in the code": through_codes,
    "straight in the spectrum": straight(*ends),
}
likelihoods = pd.DataFrame(index=alpha.flatten().tolist())
print(f"from a soft {name} of {pianos[-1]} to a loud one of {pianos[0]}")
for how, walk in walks.items():
    likelihoods[how] = one.log_prob(walk[None])[0].cpu() / K
    print(f"{how}: halfway {likelihoods[how].iloc[30]:.2f} nats a dimension")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Two walks between the same two spectra, from left to right, and how likely the flow finds the spectra on the way.", "name": "fig-walk"}, "image": {"alt": "Two images with horizontal partials that grow from left to right, nearly alike; below, two curves of log-likelihood that start and end together and differ in between."}}
with plots.shown(9, 8, 3, height_ratios=(3, 3, 2)) as (*images, below):
    for ax, (how, walk) in zip(images, walks.items(), strict=True):
        plots.spectrogram(ax, walk.T, front_end, vmin=0, vmax=float(ends.max()))
        ax.images[0].set_extent((0, 1, *ax.get_ylim()))
        ax.set(title=how, xlabel="α")
    likelihoods.plot(ax=below, xlabel="α", ylabel="log p (nats a dimension)", xlim=(0, 1))

# %% [markdown]
# **By ear.** A spectrogram has no phases. The method of Griffin and Lim finds some that fit: it starts from random ones and
# goes back and forth between sound and spectrogram. `synthesise` first expands the compression of {doc}`01_spectrograms`, and sets
# the bins that are not modelled to silence. A frame that is repeated becomes a steady sound, without a piano's
# decay.

# %%
soft, loud = ends[:, None].expand(-1, 61, -1)
held = {"the soft frame, held": soft, "the loud frame, held": loud}
sounds = {
    caption: spectrogram.synthesise(walk.T.cpu(), front_end)
    for caption, walk in (held | walks).items()
}
heard = spectrogram.spectrogram(sounds["the loud frame, held"], front_end)[:, :61]
error = measures.relative_error(loud.T, heard)
print(f"relative error of the spectrogram that is heard: {error:.3f}")
players(sounds, front_end.sample_rate)

# %% [markdown]
# ## Does a flow know its note?
#
# The likelihood should tell notes apart. We ask every flow about validation frames of every note. A
# row is a note that was played, a column is a flow.

# %%
asked = frames.of_each_note(20, validation)
of_notes = [flow.log_prob(x.expand(N, -1, -1)).cpu() / K for x in asked]
likelihood = torch.stack(of_notes)  # (N notes, N flows, frames)
wins = (likelihood.argmax(dim=1) == torch.arange(N)[:, None]).float().mean()
print(f"the right flow wins {wins:.3f} of the frames; chance {1 / N:.3f}")
assert wins > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean log-likelihood of validation frames under every note's flow. The colours end at the lower tenth; what is below is as dark.", "name": "fig-flow-matrix"}, "image": {"alt": "A square image by pitch of the frame and pitch of the flow. The diagonal is bright, everything off it is darker."}}
with plots.shown(6, 4.8) as ax:
    means = likelihood.mean(dim=2)
    floor = means.quantile(0.1)
    plots.pitch_matrix(ax, means, pitches, "log p (nats a dimension)", vmin=floor)
    ax.set(xlabel="flow of", ylabel="frames of")

# %% [markdown]
# This is not yet a transcription. Here one note sounds at a time, and that is known. In a mixture no frame is likely under
# any flow: first the spectra have to be found that it is made of.
#
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
