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
# # One flow for all notes
#
# **The question.** Can one flow know the spectra of all notes, and keep *which note* apart from *how it sounds*?
#
# **You need:** couplings, densities and training, from {doc}`03_note_flows`. **You will see:** two new layers, a latent
# vector with two parts, a loss that sorts information into them, and a check by a stranger of how well it is sorted.

# %% tags=["parameters"]
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"conditional_flow.epochs": 40}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
seed = None  # of the training; None leaves it to the profile

# %%
import math
from dataclasses import replace

import librosa
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from ddslib import plots, spectrogram, training
from ddslib.config import load_profile
from ddslib.experiment import Workspace
from ddslib.flows import ConditionalGlow, standard_normal_log_density
from ddslib.layers import ActNorm, LUMixing

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
experiment = workspace.experiment("dds3", seed=seed)
front_end, pitches, recipe = profile.front_end, profile.pitches, profile.conditional_flow
frames = workspace.frames(without=experiment.instrument)
held_out = frames.validation(profile.training, experiment.seed)
trained = workspace.flow("conditional_flow", experiment.instrument, experiment.seed)
flow = trained.flow.freeze()
N, K = flow.n_sources, flow.dimensions
print(f"{N} notes, K = {K} bins, {recipe.steps} steps")


def some_frames(chosen, count):
    """At most `count` of the chosen frames (count, K), evenly spread, and their notes."""
    rows = np.flatnonzero(chosen)
    rows = rows[:: -(-len(rows) // count)]
    values = torch.from_numpy(frames.values[rows]).to(workspace.device)
    return values, torch.from_numpy(frames.sources[rows]).to(workspace.device)


# %% [markdown]
# ## Why one
#
# A stack of note flows learns each note by itself. But notes have much in common: hammers, rooms, microphones, how partials
# decay. One flow that sees all frames can learn that once.

# %%
stack = workspace.flow("note_flows", experiment.instrument, experiment.seed).flow
for name, size in ((f"{N} note flows", stack.size()), ("one flow", flow.size())):
    per_frame = size / len(frames.values)
    print(f"{name}: {size / 1e6:.3g} million weights, {per_frame:.3g} a training frame")
assert flow.size() < stack.size()

# %% [markdown]
# The stack grows with the number of notes; the one flow does not. It is small here and trained for a minute or two. The paper's
# has 32 steps with networks of three layers of 1024 units, and is trained for up to 2500 epochs {cite}`martak2022`.

# %% [markdown]
# ## Two new layers
#
# A step of Glow {cite}`kingma2018` is ActNorm, then a mixing matrix, then the affine coupling of {doc}`03_note_flows`.
#
# **ActNorm** scales and shifts each dimension, $\mathbf{y} = \mathbf{x} \odot e^{\mathbf{a}} + \mathbf{b}$. Both are chosen so
# that the first batch comes out with mean 0 and deviation 1, and are learnt from there. Some bins hardly vary; their
# deviation counts as at least 0.01, so that nothing is blown up.

# %%
x, _ = some_frames(~held_out, 500)
norm = ActNorm(K).to(workspace.device).requires_grad_(False)
y, log_det = norm(x)
assert torch.allclose(y.mean(0), torch.zeros_like(y[0]), atol=1e-3)
assert float(y.std(0).max()) < 1.01
assert torch.isclose(log_det, norm.log_scale.sum())
print(
    f"largest deviation of a bin: before {x.std(0).max():.3f}, after {y.std(0).max():.3f}"
)
again, _ = norm(x + 1)  # later batches no longer choose anything
assert torch.allclose(again.mean(0), norm.log_scale.exp(), atol=1e-2, rtol=1e-2)

# %% [markdown]
# **The mixing matrix** takes the place of the fixed permutation, and is learnt. Held as a product of triangles,
#
# $$ \mathbf{y} = \mathbf{P}\mathbf{L}\mathbf{U}\mathbf{x}, \qquad \log |\det| = \sum_k \log |U_{kk}|, $$
#
# its determinant is read off the diagonal, and its inverse takes two triangular systems. It starts as a random rotation.

# %%
generator = torch.Generator().manual_seed(0)
mixing = LUMixing(8, generator).double().requires_grad_(False)
unit = torch.eye(8, dtype=torch.float64)
matrix, log_det = mixing(unit)
assert torch.allclose(matrix @ matrix.T, unit, atol=1e-6)
assert abs(log_det) < 1e-6  # a rotation keeps volumes

mixing.factors += 0.1 * torch.randn(8, 8, generator=generator)  # as if it had learnt
matrix, log_det = mixing(unit)
from_matrix = torch.linalg.slogdet(matrix).logabsdet
print(f"log |det|: {log_det:.3f} from the diagonal, {from_matrix:.3f} from the matrix")
assert torch.isclose(log_det, from_matrix)
assert torch.allclose(mixing.inverse(matrix), unit, atol=1e-8)

# %% [markdown]
# The log-determinants of all layers add up. A whole flow of two steps, small enough for its Jacobian:

# %%
small = ConditionalGlow(2, 6, 2, [8], recipe.semantic_weight, generator)
v = torch.randn(100, 6, generator=generator)
small(v)  # ActNorm has to see a batch
jacobian = torch.autograd.functional.jacobian(lambda x: small(x[None])[0][0], v[0])
log_det = small.freeze()(v[:1])[1][0]
assert torch.isclose(torch.linalg.slogdet(jacobian).logabsdet, log_det, atol=1e-4)

# %% [markdown]
# While a flow is fixed, as in a decomposition, the inverse of a mixing and of the ActNorm before it are one matrix. `freeze`
# computes it once.
#
# ## A latent vector in two parts
#
# The latent vector is split {cite}`jacobsen2019`. The *semantic* part $\mathbf{z}_s$ has $N$ numbers, and should be the one-hot
# vector $\mathbf{e}_n$ of the note. The *nuisance* part $\mathbf{z}_\nu$ has the other $K - N$ numbers, and should be
# standard normal. Then one can ask for a note: fix $\mathbf{e}_n$, draw $\mathbf{z}_\nu$, decode. The loss of a frame
# $\mathbf{x}$ of note $n$ is
#
# $$ -\log \mathcal{N}(\mathbf{z}_\nu; \mathbf{0}, \mathbf{I}) - \log \left| \det \frac{\partial f}{\partial \mathbf{x}} \right|
#    + \lambda_s \cdot \mathrm{MSE}(\mathbf{z}_s, \mathbf{e}_n) $$

# %%
x, notes = some_frames(held_out, 2000)
z, log_det_x = flow(x)
semantic, nuisance = flow.split(z)
one_hot = functional.one_hot(notes, N).to(z)
error = (semantic - one_hot).square().mean(dim=1)
loss = -standard_normal_log_density(nuisance) - log_det_x + recipe.semantic_weight * error
print(f"loss of validation frames: {loss.mean():.4g} nats, without a constant")

# %% [markdown]
# The last term looks foreign, but it is a density too. Its parabola is, up to a constant, the log-density of a normal
# distribution around $\mathbf{e}_n$ with variance $N / (2 \lambda_s)$. So the loss is one conditional log-likelihood,
# $-\log p(\mathbf{x} \mid n)$:

# %%
variance = N / (2 * recipe.semantic_weight)
constant = N / 2 * math.log(2 * math.pi * variance)
log_p = flow.log_prob(x, notes)
assert torch.allclose(-log_p, loss + constant, rtol=1e-3, atol=0.5)
print(f"σ = {math.sqrt(variance):.3g}: how close to its one-hot vector a note should be")

# %% [markdown]
# ## The classifier in the way
#
# Nothing so far forbids $\mathbf{z}_\nu$ to hold the note as well. If it did, a search of $\mathbf{z}_\nu$ could turn one note
# into another. So a classifier $Q$ is trained beside the flow to read the note from $\mathbf{z}_\nu$, and the flow gets a bonus
# when it fails, much as two networks play against each other in adversarial training:
#
# $$ \ldots - \lambda_\nu \cdot \mathrm{CE}\bigl(Q(\mathbf{z}_\nu), n\bigr) $$
#
# The released code {cite}`ddscode` trains $Q$ on *shuffled* labels. Those are independent of the frame, so $Q$ cannot
# measure what $\mathbf{z}_\nu$ says of the note. Here it gets the frame's own label; `nuisance_labels: shuffled` is the
# other choice.

# %%
epochs = len(trained.history["training"])
best = int(trained.history["validation"].nan_to_num(torch.inf).argmin())
print(f"{epochs} epochs, the best is number {best + 1}")
print(f"validation loss of the best epoch: {trained.best_losses[0]:.4g} nats a frame")
if "classifier" in trained.history:
    entropy = trained.history["classifier"][-1, 0]
    print(f"cross-entropy of Q at the end {entropy:.3f} nats; guessing {math.log(N):.3f}")
    bonus = recipe.nuisance_weight * (math.log(N) - entropy)
    print(f"what the flow would win if Q could only guess: {bonus:.2g} nats a frame")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training. Left: loss of training and validation frames, cut off above. Right: the cross-entropy of the classifier Q; the dotted line is guessing.", "name": "fig-glow-training"}, "image": {"alt": "Left, two falling curves over epochs, the loss of training and validation frames. Right, the cross-entropy of the classifier, which falls at first and then climbs back towards a dotted line."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
plots.training_history(axes[0], trained.history)
losses = trained.history["validation"]
axes[0].set_ylim(float(losses.min()) - 100, float(losses.quantile(0.9)) + 300)
if "classifier" in trained.history:
    entropies = trained.history["classifier"]
    axes[1].plot(np.arange(1, len(entropies) + 1), entropies)
axes[1].axhline(math.log(N), color=plots.INK, linestyle=":")
axes[1].set(xlabel="epoch", ylabel="cross-entropy of Q (nats)")
plt.show()

# %% [markdown]
# The last number is to be compared with the loss itself. A small $\lambda_\nu$ makes it small. In the `laptop` profile $Q$ learns at
# first, and then the flow learns to mislead it.
#
# ## Is the note where it should be?
#
# **In the semantic part.** Which note $n$ makes a frame most likely? In $\log p(\mathbf{x} \mid n)$ only one term depends on
# $n$: the distance of $\mathbf{z}_s$ from $\mathbf{e}_n$. The nearest one-hot vector is that of the largest number. So
# the largest semantic number is already the best guess, if all notes are equally common.

# %%
ten = torch.arange(0, len(x), len(x) // 10, device=x.device)
by_likelihood = torch.stack(
    [
        flow.log_density(z[ten], log_det_x[ten], notes.new_full(ten.shape, n))
        for n in range(N)
    ]
).argmax(dim=0)
read = semantic.argmax(dim=1)
assert torch.equal(by_likelihood, read[ten])
accuracy = (read == notes).float().mean()
print(f"read correctly: {accuracy:.3f}; guessing {1 / N:.3f}")
assert accuracy > 0.5
distance = (read - notes).abs()
wrong = distance > 0
if wrong.any():
    octaves = (distance[wrong] % 12 == 0).float().mean()
    print(f"of the errors, by whole octaves: {octaves:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What is read from the semantic part, against the note that was played; share of each note's validation frames.", "name": "fig-glow-confusion"}, "image": {"alt": "A square image with both axes over pitch: a bright diagonal, and few and weak spots beside it."}}
confusion = torch.zeros(N, N)
confusion.index_put_((notes.cpu(), read.cpu()), torch.ones(len(read)), accumulate=True)
confusion /= confusion.sum(dim=1, keepdim=True).clamp(min=1)
figure, ax = plt.subplots(figsize=(5, 4.2))
plots.pitch_matrix(ax, confusion, pitches, "share of frames", vmin=0, vmax=1)
ax.set(xlabel="read", ylabel="played")
plt.show()

# %% [markdown]
# **And not in the nuisance part?** $Q$ was the flow's opponent during training, so it is no fair judge. We train an
# *independent probe*, a linear classifier, on $\mathbf{z}_\nu$ of training frames, and ask it about validation frames. The probe also
# gets the spectra $\mathbf{x}$ themselves.
#
# Accuracy alone may saturate. The cross-entropy of the probe, in nats, still tells a sure answer from a narrow one. It is
# $\log N$ for guessing, and 0 for being sure and right.
#
# Does the classifier make a difference? For that, two more flows are trained, with it and without it ($\lambda_\nu = 0$). They know the
# middle octave only and train for two thirds of the epochs, so that they take a fraction of the time.

# %%
known, known_notes = some_frames(~held_out, 3000)
width = min(12, N)
lowest = (N - width) // 2  # of the octave, in notes
octave = replace(
    pitches,
    lowest=pitches.lowest + lowest,
    highest=pitches.lowest + lowest + width - 1,
)


def octave_flow(nuisance_weight):
    """A flow for the notes of the octave."""
    epochs = max(1, 2 * recipe.epochs // 3)
    changed = replace(recipe, nuisance_weight=nuisance_weight, epochs=epochs)
    small = replace(profile, pitches=octave, conditional_flow=changed)
    space = Workspace(small, work_dir, maps_root, device)
    found = space.flow("conditional_flow", experiment.instrument, experiment.seed)
    return found.flow.freeze()


def probe(learn, learn_notes, test, test_notes):
    """Accuracy and cross-entropy of a classifier of notes."""
    linear = LogisticRegression(C=0.01, max_iter=1000, tol=1e-3)
    classifier = make_pipeline(StandardScaler(), linear)
    classifier.fit(learn.cpu().numpy(), learn_notes.cpu().numpy())
    guesses = classifier.predict_proba(test.cpu().numpy())
    known, truth = classifier.classes_, test_notes.cpu().numpy()
    share = (known[guesses.argmax(axis=1)] == truth).mean()
    return float(share), float(log_loss(truth, guesses, labels=known))


def nuisance_of(some_flow, frames):
    return some_flow.split(some_flow(frames)[0])[1]


def within(values, sources):
    """Those of the frames that are of the octave, and their notes."""
    inside = (sources >= lowest) & (sources < lowest + width)
    return values[inside], sources[inside]


def bars(known, known_notes, x, notes, flows):
    """What the probe finds, in spectra and in nuisance parts."""
    count = len(known_notes.unique())
    found = {"x itself": probe(known, known_notes, x, notes)}
    for name, some_flow in flows.items():
        learn, test = (nuisance_of(some_flow, values) for values in (known, x))
        found[name] = probe(learn, known_notes, test, notes)
    return found | {"guessing": (1 / count, math.log(count))}


with_q = f"z_ν, λ_ν = {recipe.nuisance_weight:g}"
left = {
    "all notes": bars(known, known_notes, x, notes, {with_q: flow}),
    "one octave": bars(
        *within(known, known_notes),
        *within(x, notes),
        {
            with_q: octave_flow(recipe.nuisance_weight),
            "z_ν, λ_ν = 0": octave_flow(0.0),
        },
    ),
}
for where, found in left.items():
    for name, (share, entropy) in found.items():
        print(f"{where}, {name}: read correctly {share:.3f}, ", end="")
        print(f"cross-entropy {entropy:.3g} nats")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How much of the note an independent linear probe finds: in the spectra themselves, in nuisance parts, and by guessing. Above: all notes; below: one octave, with the classifier in training and without it.", "name": "fig-glow-probe"}, "image": {"alt": "Horizontal bars for all notes and for one octave: the accuracy of the probe on the left, its cross-entropy on the right. In spectra and in nuisance parts almost all is read correctly, by guessing hardly anything."}}
figure, axes = plt.subplots(
    2, 2, figsize=(9, 3.6), sharex="col", height_ratios=[3, 4], layout="constrained"
)
chosen = (plots.MISSED, plots.RIGHT, plots.WRONG, plots.INK)
colours = dict(zip(left["one octave"], chosen, strict=True))
for row, (where, found) in zip(axes, left.items(), strict=True):
    for place, ax in enumerate(row):
        numbers = [measures[place] for measures in found.values()]
        ax.barh(list(found), numbers, color=[colours[name] for name in found])
        ax.set_title(where, loc="left", fontsize="medium")
        ax.invert_yaxis()
axes[0, 0].set_xlim(0, 1)
axes[1, 0].set_xlabel("share of frames read correctly")
axes[1, 1].set_xlabel("cross-entropy (nats)")
plt.show()

# %% [markdown]
# The numbers say how far the separation goes. Where the bars of $\mathbf{z}_\nu$ are far from guessing, it still knows the note.
# Where the bar with the classifier is no lower than the one without, the classifier has hidden nothing that this probe can see.
# That should not surprise: the term is weak beside a likelihood of hundreds of nats or more, and $Q$ is a small network that learns
# while the flow runs away from it. A probe that comes later, and has all the time it wants, finds what $Q$ did not.
# And a flow is invertible: what is in $\mathbf{x}$ is in $\mathbf{z}$, in one part or the other or both. So it is certain
# here where the note can be *set*. What the rest *knows* is only discouraged.
#
# ## The same nuisance under other notes
#
# Take a real frame, keep its $\mathbf{z}_\nu$, and write other notes into the semantic part. If the parts were separate, we would
# see and hear the same sound at other pitches. The semantic part of a real frame is only near its one-hot vector, so even under its
# own note the frame changes a little.

# %%
middle = int(np.flatnonzero(held_out & (frames.sources == N // 2))[3])
frame = torch.from_numpy(frames.values[middle]).to(workspace.device)[None]
_, code = flow.split(flow(frame)[0])
own_code = flow.decode(code.expand(N, 1, -1))[:, 0].clamp(0, 1).cpu()
modes = flow.decode(torch.zeros_like(code).expand(N, 1, -1))[:, 0].clamp(0, 1).cpu()
change = (own_code[N // 2] - frame[0].cpu()).abs().max()
print(f"under its own note the frame changes by at most {change:.3g}")

means = torch.stack([known[known_notes == n].mean(dim=0) for n in range(N)]).cpu()
direction = functional.normalize(means, dim=1)


def resembles(spectra):
    """For spectra (B, K) the note whose mean spectrum has the most similar shape (B,)."""
    return (functional.normalize(spectra, dim=1) @ direction.T).argmax(dim=1)


for name, spectra in (("modes", modes), ("one real frame's code", own_code)):
    follows = (resembles(spectra) == torch.arange(N)).float().mean()
    stays = (resembles(spectra) == N // 2).float().mean()
    print(f"{name}: resembles the note that was set {follows:.3f},", end=" ")
    print(f"the note of the frame {stays:.3f}")
assert (resembles(modes) == torch.arange(N)).float().mean() > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Decoded for every note. Left: with nuisance codes of zero, the modes. Right: with the nuisance code of one real frame of the note marked by an arrow.", "name": "fig-glow-swap"}, "image": {"alt": "Two images of spectra side by side, sorted by pitch. Left, partials that rise with pitch. Right, the same with horizontal traces of the partials of the note whose code is used."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
for ax, spectra, name in (
    (axes[0], modes, "mode"),
    (axes[1], own_code, "one real frame"),
):
    plots.dictionary(ax, spectra.T, np.arange(N), front_end, pitches)
    ax.set_title(name)
top = axes[1].get_ylim()[1]
arrow = {"arrowstyle": "->", "color": "cyan"}
axes[1].annotate("", (N // 2 + 0.5, 0.8 * top), (N // 2 + 0.5, top), arrowprops=arrow)
axes[1].set_ylabel("")
plt.show()

# %% [markdown]
# If the partials move with the note that is set, $\mathbf{z}_s$ has the say. Traces that stay where they were are the
# note as $\mathbf{z}_\nu$ still remembers it. Which of the two is stronger can be heard, too. The first sound is the frame itself, held;
# the others have its nuisance code and another note. (`synthesise` is that of {doc}`03_note_flows`.)


# %%
def held(spectrum):
    """A spectrum (K,) as a steady sound."""
    return spectrogram.synthesise(spectrum[:, None].expand(-1, 40), front_end)


names = [librosa.midi_to_note(pitch) for pitch in pitches.numbers]
sounds = {f"{names[N // 2]}, the real frame": held(frame[0].cpu())}
for n in np.unique(np.linspace(0, N - 1, 4).astype(int)):
    sounds[f"set to {names[n]}"] = held(own_code[n])
plots.players(sounds, front_end.sample_rate)

# %% [markdown]
# ## Samples
#
# Last, whole samples: a note is set, with a little normal noise of variance $N / (2 \lambda_s)$ around its one-hot vector, and
# $\mathbf{z}_\nu$ is drawn.

# %%
some = max(400 // N, 5)
labels = torch.arange(N, device=x.device).repeat_interleave(some)
draws = torch.Generator(x.device).manual_seed(0)
sampled = flow.sample(labels, draws).cpu()
beyond = (sampled.abs().amax(dim=1) > 2).float().mean()
follows = (resembles(sampled.clamp(min=0)) == labels.cpu()).float().mean()
print(f"samples that go beyond 2 anywhere, as no spectrum does: {beyond:.3f}")
print(f"samples that resemble the note that was set: {follows:.3f}; guessing {1 / N:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Real frames and samples of the one flow, sorted by pitch.", "name": "fig-glow-samples"}, "image": {"alt": "Two images of spectra sorted by pitch: real frames with partials that rise from left to right, and a bright broad onset for each note; samples with the same partials, some of them much noisier."}}
rows = [np.flatnonzero(frames.sources == n) for n in range(N)]
rows = [own[np.linspace(0, len(own) - 1, some).astype(int)] for own in rows]
figure, axes = plt.subplots(2, 1, figsize=(9, 5.6), sharex=True)
for ax, title, spectra in (
    (axes[0], "real frames", torch.from_numpy(frames.values[np.concatenate(rows)])),
    (axes[1], "samples", sampled),
):
    plots.dictionary(ax, spectra.clamp(0, 0.8).T, labels.cpu(), front_end, pitches)
    ax.set_title(title)
    ax.label_outer()
plt.show()

# %% [markdown]
# ## Why the gradient is clipped
#
# At the start $\mathbf{z}_s$ is anything, and $\lambda_s$ is ten thousand. So the first gradients are huge. Adam {cite}`kingma2015`
# divides a gradient by the root of a running mean of its square, and that mean remembers about a thousand steps. Huge first
# gradients hold back all that follow. Clipping scales a gradient down to a largest norm, and leaves its
# direction. Here are the first steps of a fresh flow, with and without:

# %%
batch, steps, rate = 128, 40, 3e-4
training_rows = torch.from_numpy(np.flatnonzero(~held_out))


def first_steps(clipping):
    """Norms of the gradient before clipping, and losses, by step."""
    order = torch.Generator().manual_seed(0)
    fresh = training.build(recipe, N, K, order).to(workspace.device)
    adam = torch.optim.Adam(fresh.parameters(), lr=rate)
    norms, losses = [], []
    for _ in range(steps):
        rows = training_rows[torch.randint(len(training_rows), (batch,), generator=order)]
        values = torch.from_numpy(frames.values[rows]).to(workspace.device)
        sources = torch.from_numpy(frames.sources[rows]).to(workspace.device)
        loss = -fresh.log_prob(values, sources).mean()
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(fresh.parameters(), clipping)
        adam.step()
        norms.append(float(norm))
        losses.append(loss.item())
    return norms, losses


curves = {"clipped at 100": first_steps(100.0), "not clipped": first_steps(math.inf)}
for name, (norms, losses) in curves.items():
    print(f"{name}: norm of the first gradient {norms[0]:.3g},", end=" ")
    print(f"loss of the last ten steps {np.mean(losses[-10:]):.3g} nats a frame")
    print(f"  steps with a norm above 100: {np.mean(np.array(norms) > 100):.3f} of all")
assert curves["not clipped"][0][0] > 1000
assert np.mean(curves["clipped at 100"][1][-10:]) < np.mean(
    curves["not clipped"][1][-10:]
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The first steps of training. Left: the norm of the gradient, before clipping, on a logarithmic axis. Right: the loss, cut off above.", "name": "fig-glow-clipping"}, "image": {"alt": "Left, two curves of the gradient's norm over training steps, far above the dotted line of the clipping, which rise for a few steps and then fall. Right, two falling curves of the loss; the one with clipping falls faster and ends lower."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
every_loss = np.concatenate([losses for _, losses in curves.values()])
for name, (norms, losses) in curves.items():
    axes[0].semilogy(norms, label=name)
    axes[1].plot(losses, label=name)
axes[0].axhline(100, color=plots.INK, linestyle=":")
axes[0].set(xlabel="step", ylabel="norm of the gradient")
axes[1].set(xlabel="step", ylabel="loss (nats a frame)")
axes[1].set_ylim(every_loss.min() - 200, np.quantile(every_loss, 0.75))
axes[1].legend(frameon=False)
plt.show()

# %% [markdown]
# Where the norm stays above the limit, clipping makes all gradients equally long, and only their direction counts.
#
# The released code does not clip this flow {cite}`ddscode`; with thousands of epochs it need not.
#
# ## What was learnt
#
# * One flow can hold all notes: a fixed part of the latent vector says which, the rest is a code.
# * Its loss is a conditional log-likelihood. A classifier in training is meant to keep the note out of the rest.
# * Whether it did is for an independent probe to say. In the `laptop` profile it did not: the probe reads the note from the rest
#   about as well as from the spectrum, with the classifier no worse than without, and the classifier's own cross-entropy did not show it.
#
# **Next:** {doc}`07_dds3` searches the nuisance codes of this flow.
