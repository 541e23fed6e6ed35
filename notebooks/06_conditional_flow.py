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
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from ddslib import plots, training
from ddslib.config import load_profile
from ddslib.experiment import Workspace
from ddslib.flows import ActNorm, LUMixing, standard_normal_log_density
from ddslib.frames import Frames

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
experiment = workspace.experiment("dds3", seed=seed)
front_end, pitches, recipe = profile.front_end, profile.pitches, profile.conditional_flow
frames = workspace.frames(without=experiment.instrument)
held_out = frames.validation(profile.training, experiment.seed)
trained = workspace.flow("conditional_flow", experiment.instrument, experiment.seed)
flow = trained.flow
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
    print(
        f"{name}: {size / 1e6:.3g} million weights, {size / len(frames.values):.3g} a frame"
    )
assert flow.size() < stack.size()

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
    f"deviations of bins: before at most {x.std(0).max():.3f}, after {y.std(0).max():.3f}"
)

# %% [markdown]
# **The mixing matrix** takes the place of the fixed permutation, and is learnt. Held as a product of triangles,
#
# $$ \mathbf{y} = \mathbf{P}\mathbf{L}\mathbf{U}\mathbf{x}, \qquad \log |\det| = \sum_k \log |U_{kk}|, $$
#
# its determinant is read off the diagonal, and its inverse takes two triangular systems. It starts as a random rotation.

# %%
mixing = LUMixing(8, torch.Generator().manual_seed(0)).double()
matrix, log_det = mixing(torch.eye(8, dtype=torch.float64))
assert torch.allclose(matrix @ matrix.T, torch.eye(8, dtype=torch.float64), atol=1e-6)
with torch.no_grad():
    mixing.factors += 0.1 * torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    matrix, log_det = mixing(torch.eye(8, dtype=torch.float64))
assert torch.isclose(torch.linalg.slogdet(matrix).logabsdet, log_det)
print(f"log-determinant of a mixing matrix: {log_det:.3f}, read off its diagonal")

# %% [markdown]
# While a flow is fixed, as in a decomposition, the inverse of a mixing and of the ActNorm before it are one matrix. `freeze`
# computes it once.
#
# ## A latent vector in two parts
#
# The latent vector is split {cite}`jacobsen2019`. The *semantic* part $\mathbf{z}_s$ has $N$ numbers, and should be the one-hot
# vector $\mathbf{e}_n$ of the note. The *nuisance* part $\mathbf{z}_n$ has the other $K - N$ numbers, and should be
# standard normal. Then one can ask for a note: fix $\mathbf{e}_n$, draw $\mathbf{z}_n$, decode. The loss of a frame
# $\mathbf{x}$ of note $n$ is
#
# $$ -\log \mathcal{N}(\mathbf{z}_n; \mathbf{0}, \mathbf{I}) - \log \left| \det \frac{\partial f}{\partial \mathbf{x}} \right|
#    + \lambda_s \cdot \mathrm{MSE}(\mathbf{z}_s, \mathbf{e}_n) $$

# %%
x, notes = some_frames(held_out, 2000)
with torch.no_grad():
    z, log_det = flow(x)
semantic, nuisance = flow.split(z)
one_hot = functional.one_hot(notes, N).to(z)
error = (semantic - one_hot).square().mean(dim=1)
loss = -standard_normal_log_density(nuisance) - log_det + recipe.semantic_weight * error
print(f"loss of validation frames: {loss.mean():.4g} nats")

# %% [markdown]
# The last term looks foreign, but it is a density too. Its parabola is, up to a constant, the log-density of a normal
# distribution around $\mathbf{e}_n$ with variance $N / (2 \lambda_s)$. So the loss is one conditional log-likelihood,
# $-\log p(\mathbf{x} \mid n)$:

# %%
variance = N / (2 * recipe.semantic_weight)
constant = N / 2 * math.log(2 * math.pi * variance)
with torch.no_grad():
    log_p = flow.log_prob(x, notes)
assert torch.allclose(-log_p, loss + constant, rtol=1e-3, atol=0.5)
print(f"σ = {math.sqrt(variance):.3g}: how close to its one-hot vector a note should be")

# %% [markdown]
# ## The classifier in the way
#
# Nothing so far forbids $\mathbf{z}_n$ to hold the note as well. If it did, a search of $\mathbf{z}_n$ could turn one note
# into another. So a classifier $D$ is trained beside the flow to read the note from $\mathbf{z}_n$, and the flow gets a bonus
# when it fails:
#
# $$ \ldots - \lambda_n \cdot \mathrm{CE}\bigl(D(\mathbf{z}_n), n\bigr) $$
#
# The released code {cite}`ddscode` trains $D$ on *shuffled* labels. Those say nothing of the frame, so $D$ cannot find what
# $\mathbf{z}_n$ says of the note. Here it gets the frame's own label; `nuisance_labels: shuffled` is the other choice.

# %%
own = len(trained.history["training"])
best = int(trained.history["validation"].nan_to_num(torch.inf).argmin())
print(f"{own} epochs, the best is number {best + 1}")
print(f"validation loss of the best epoch: {trained.best_losses[0]:.4g} nats a frame")
if "classifier" in trained.history:
    entropy = trained.history["classifier"][-1, 0]
    print(
        f"D's cross-entropy at the end {entropy:.3f} nats; guessing gives {math.log(N):.3f}"
    )

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training. Left: loss of training and validation frames, cut off above. Right: the cross-entropy of the classifier D; the dotted line is guessing.", "name": "fig-glow-training"}, "image": {"alt": "Left, two falling curves over epochs, the loss of training and validation frames. Right, the falling cross-entropy of the classifier below a dotted line."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
plots.training_history(axes[0], trained.history)
losses = trained.history["validation"]
axes[0].set_ylim(float(losses.min()) - 100, float(losses.quantile(0.9)) + 300)
if "classifier" in trained.history:
    entropies = trained.history["classifier"]
    axes[1].plot(np.arange(1, len(entropies) + 1), entropies)
axes[1].axhline(math.log(N), color=plots.INK, linestyle=":")
axes[1].set(xlabel="epoch", ylabel="cross-entropy of D (nats)")
plt.show()

# %% [markdown]
# ## Is the note where it should be?
#
# **In the semantic part:** the largest of its $N$ numbers should be the note's. On validation frames:

# %%
read = semantic.argmax(dim=1)
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
# **And not in the nuisance part.** $D$ was the flow's opponent during training, so it is no fair judge. We train an
# *independent probe*, a linear classifier, on $\mathbf{z}_n$ of training frames, and ask it about validation frames. For
# comparison, a second flow is trained without the classifier, $\lambda_n = 0$.

# %%
lax = replace(profile, conditional_flow=replace(recipe, nuisance_weight=0.0))
lax_flow = (
    Workspace(lax, work_dir, maps_root, device)
    .flow("conditional_flow", experiment.instrument, experiment.seed)
    .flow
)
known, known_notes = some_frames(~held_out, 4000)


def probe(some_flow):
    """How often a linear classifier reads the note of a validation frame from its z_n."""
    with torch.no_grad():
        learn, test = (some_flow.split(some_flow(v)[0])[1].cpu() for v in (known, x))
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=10.0))
    classifier.fit(learn.numpy(), known_notes.cpu().numpy())
    return classifier.score(test.numpy(), notes.cpu().numpy())


left = {
    "λ_n as trained": probe(flow),
    "λ_n = 0": probe(lax_flow),
    "guessing": 1 / N,
}
for name, share in left.items():
    print(f"{name}: {share:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How often an independent linear probe reads the note from the nuisance part of a validation frame.", "name": "fig-glow-probe"}, "image": {"alt": "Three horizontal bars: the accuracy of the probe with the nuisance term on, with it off, and of guessing."}}
figure, ax = plt.subplots(figsize=(6, 1.9))
ax.barh(list(left), list(left.values()), color=[plots.RIGHT, plots.WRONG, plots.INK])
ax.set(xlabel="share of frames read correctly", xlim=(0, 1))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# The numbers say how far the separation goes. Where the upper bar stays far above guessing, $\mathbf{z}_n$ still knows the note:
# the term is weak, $\lambda_n$ being small beside hundreds of nats of likelihood, and the training of the `laptop` profile is
# short. The separation of this chapter is therefore one of *where the note can be set*, not of what the rest knows.
#
# ## The same nuisance under other notes
#
# Take a real frame, keep its $\mathbf{z}_n$, and write other notes into the semantic part. If the parts were separate, we would
# see and hear the same sound at other pitches.

# %%
middle = int(np.flatnonzero(held_out & (frames.sources == N // 2))[3])
frame = torch.from_numpy(frames.values[middle]).to(workspace.device)[None]
with torch.no_grad():
    _, code = flow.split(flow(frame)[0])
    own_code = flow.decode(code.expand(N, 1, -1))[:, 0].clamp(0, 1).cpu()
    modes = flow.decode(torch.zeros_like(code).expand(N, 1, -1))[:, 0].clamp(0, 1).cpu()
assert torch.allclose(own_code[N // 2], frame[0].cpu().clamp(0, 1), atol=0.2)

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

# %%
heard = [n for n in (N // 2, N // 2 + 2, N // 2 + 4) if n < N]
sounds = {
    f"{librosa.midi_to_note(pitches.numbers[n])} with this code": plots.synthesise(
        own_code[n][:, None].expand(-1, 40), front_end
    )
    for n in heard
}
plots.players(sounds, front_end.sample_rate)

# %% [markdown]
# ## Why the gradient is clipped
#
# At the start $\mathbf{z}_s$ is anything, and $\lambda_s$ is ten thousand. So the first gradients are huge. Adam divides a
# gradient by the root of a running mean of its square, and that mean remembers about a thousand steps. Huge first
# gradients hold back all that follow. Three epochs on a part of the frames, with and without clipping:

# %%
few = np.flatnonzero(np.arange(len(frames.values)) % 4 == 0)
part = Frames(
    frames.values[few], frames.sources[few], frames.recordings[few], frames.names, ""
)


def short_training(clipping):
    """Validation losses of three epochs."""
    brief = replace(recipe, epochs=3, batch=64, gradient_clipping=clipping)
    result = training.train(brief, part, held_out[few], N, 0, workspace.device)
    return result.history["validation"][:, 0].tolist()


curves = {"clipped at 100": short_training(100.0), "not clipped": short_training(None)}
for name, values in curves.items():
    print(f"{name}: {', '.join(f'{value:.3g}' for value in values)} nats a frame")
assert curves["clipped at 100"][-1] < curves["not clipped"][-1]

# %% [markdown]
# The released code does not clip this flow {cite}`ddscode`; with thousands of epochs it need not.
#
# ## What was learnt
#
# * One flow can hold all notes: which note is written into a fixed part of the latent vector, the rest is a code.
# * Its loss is a conditional log-likelihood, and a classifier that reads the rest tells how much of the note is left there.
# * An independent probe says how well that works. It is measured, not assumed.
#
# **Next:** {doc}`07_dds3` searches the nuisance codes of this flow.
