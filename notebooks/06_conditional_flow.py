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
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"conditional_flow.epochs": 40}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU
seed = None  # of the training; None leaves it to the profile

# %% tags=["hide-input"]
import math

from ddslib.flows import training
from ddslib.flows.flow import standard_normal_log_density
from ddslib.flows.glow import ConditionalGlow
from ddslib.flows.layers import ActNorm, LUMixing
from ddslib.pages import plots
from ddslib.pages.chapter import evenly, open_chapter
from ddslib.pages.flows import NoteFrames, share_of_wild, show_by_note
from ddslib.pages.players import players
from ddslib.spectra.spectrogram import synthesise

import librosa
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

workspace = open_chapter(globals())
profile, device = workspace.profile, workspace.device
front_end, pitches, recipe = profile.front_end, profile.pitches, profile.conditional_flow
piano = workspace.instruments.test[0]
frames = NoteFrames(workspace, piano, profile.seed)

# %%
trained = workspace.flow("conditional_flow", piano)
flow = trained.flow.freeze()
N, K = flow.n_sources, flow.dimensions
print(f"{N} notes, K = {K} bins, {recipe.steps} steps")

# %% [markdown]
# ## Why one
#
# A stack of note flows learns each note by itself. But notes have much in common: hammers, rooms, microphones, how partials
# decay. One flow that sees all frames can learn that once.

# %%
stack = workspace.flow("note_flows", piano).flow
for name, model in {f"{N} note flows": stack, "one flow": flow}.items():
    print(
        f"{name}: {model.size() / 1e6:.3g} million weights,",
        f"{model.size() / len(frames.sources):.3g} a training frame",
    )
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
# that the first batch comes out with mean 0 and deviation 1, and are learnt from there. Some bins hardly vary. Their
# deviation counts as at least 0.01, so that they are not blown up.

# %%
x, _ = frames.some(~frames.held_out, 500)
norm = ActNorm(K).to(device).requires_grad_(False)
y, log_det = norm(x)
after = y.std(0).max()
print(f"largest deviation of a bin: before {x.std(0).max():.3f}, after {after:.3f}")
assert y.mean(0).abs().max() < 1e-3
assert after < 1.01
assert torch.isclose(log_det, norm.log_scale.sum())
again, _ = norm(x + 1)  # later batches no longer choose anything
assert torch.allclose(again.mean(0), norm.log_scale.exp(), atol=1e-2, rtol=1e-2)

# %% [markdown]
# **The mixing matrix** takes the place of the fixed permutation, and is learnt. Held as a product of triangles,
#
# $$ \mathbf{y} = \mathbf{P}\mathbf{L}\mathbf{U}\mathbf{x}, \qquad \log |\det| = \sum_k \log |U_{kk}|, $$
#
# its determinant is read off the diagonal, and its inverse is the solution of two triangular systems. It starts as a random rotation.

# %%
generator = torch.Generator().manual_seed(0)
mixing = LUMixing(8, generator).double().requires_grad_(False)
unit = torch.eye(8, dtype=torch.float64)
matrix, log_det = mixing(unit)
assert torch.allclose(matrix @ matrix.T, unit, atol=1e-6)
assert abs(log_det) < 1e-6  # a rotation keeps volumes

mixing.factors += 0.1 * torch.randn(8, 8, generator=generator)  # as if it had learnt
matrix, log_det = mixing(unit)
from_matrix = matrix.slogdet().logabsdet
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
assert torch.isclose(jacobian.slogdet().logabsdet, log_det, atol=1e-4)

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
x, notes = frames.some(frames.held_out, 2000)
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
assert torch.allclose(-flow.log_prob(x, notes), loss + constant, rtol=1e-3, atol=0.5)
print(f"σ = {math.sqrt(variance):.3g}: how close to its one-hot vector a note should be")

# %% [markdown]
# ## The classifier in the way
#
# Nothing so far keeps the note out of $\mathbf{z}_\nu$. If it were there, a search of $\mathbf{z}_\nu$ could turn one note
# into another. So a classifier $Q$ is trained beside the flow to read the note from $\mathbf{z}_\nu$, and the flow gets a bonus
# when it fails, much as two networks play against each other in adversarial training:
#
# $$ \ldots - \lambda_\nu \cdot \mathrm{CE}\bigl(Q(\mathbf{z}_\nu), n\bigr) $$
#
# The released code {cite}`ddscode` trains $Q$ on *shuffled* labels. Those are independent of the frame, so $Q$ cannot
# measure what $\mathbf{z}_\nu$ says of the note. Here it gets the frame's own label; `nuisance_labels: shuffled` is the
# other choice.

# %%
losses, entropies = trained.history["validation"], trained.history.get("classifier")
best = losses.nan_to_num(torch.inf).argmin() + 1
print(f"{len(losses)} epochs, the best is number {best}")
print(f"validation loss of the best epoch: {trained.best_losses[0]:.4g} nats a frame")
guessing = math.log(N)
if entropies is not None:
    last = entropies[-1, 0]
    print(f"cross-entropy of Q at the end {last:.3f} nats; guessing {guessing:.3f}")
    bonus = recipe.nuisance_weight * (guessing - last)
    print(f"what the flow would win if Q could only guess: {bonus:.2g} nats a frame")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Training. Left: loss of training and validation frames, cut off above. Right: the cross-entropy of the classifier Q; the dotted line is guessing.", "name": "fig-glow-training"}, "image": {"alt": "Left, two falling curves over epochs, the loss of training and validation frames. Right, the cross-entropy of the classifier, which falls at first and then climbs back towards a dotted line."}}
with plots.shown(9, 3, 1, 2) as (left, right):
    plots.training_history(left, trained.history)
    left.set_ylim(float(losses.min()) - 100, float(losses.quantile(0.9)) + 300)
    if entropies is not None:
        right.plot(range(1, len(entropies) + 1), entropies)
    right.axhline(guessing, color=plots.INK, linestyle=":")
    right.set(xlabel="epoch", ylabel="cross-entropy of Q (nats)")

# %% [markdown]
# Compare the last number with the loss itself: a small $\lambda_\nu$ makes it small. In the `laptop` profile $Q$ learns at
# first, and then the flow learns to mislead it.
#
# ## Is the note where it should be?
#
# **In the semantic part.** Which note $n$ makes a frame most likely? In $\log p(\mathbf{x} \mid n)$ only one term depends on
# $n$: the distance of $\mathbf{z}_s$ from $\mathbf{e}_n$. The nearest one-hot vector has its one where $\mathbf{z}_s$ is
# largest. So the largest semantic number is already the best guess, if all notes are equally common.

# %%
read = semantic.argmax(dim=1)
step = len(x) // 10
log_p = flow.log_density(z[::step], log_det_x[::step], torch.arange(N)[:, None])
assert torch.equal(log_p.argmax(dim=0), read[::step])
accuracy = (read == notes).float().mean()
print(f"read correctly: {accuracy:.3f}; guessing {1 / N:.3f}")
assert accuracy > 0.5
errors = (read - notes)[read != notes]
if len(errors):
    print(f"of the errors, by whole octaves: {(errors % 12 == 0).float().mean():.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "What is read from the semantic part, against the note that was played; share of each note's validation frames.", "name": "fig-glow-confusion"}, "image": {"alt": "A square image with both axes over pitch: a bright diagonal, and few and weak spots beside it."}}
pairs = notes.cpu(), read.cpu()
shares = confusion_matrix(*pairs, labels=range(N), normalize="true")
with plots.shown(5, 4.2) as ax:
    plots.pitch_matrix(ax, shares, pitches, "share of frames", vmin=0, vmax=1)
    ax.set(xlabel="read", ylabel="played")

# %% [markdown]
# **And not in the nuisance part?** $Q$ was the flow's opponent during training, so it is no fair judge. We train an
# *independent probe*, a linear classifier, on $\mathbf{z}_\nu$ of training frames, and ask it about validation frames. The probe also
# gets the spectra $\mathbf{x}$ themselves.
#
# Accuracy may saturate: nearly all answers may be right. The cross-entropy of the probe, in nats, still tells how sure they
# are. It is $\log N$ for guessing, and 0 for being sure and right.
#
# Does the classifier make a difference? For that, two more flows are trained, with it and without it ($\lambda_\nu = 0$). They know the
# middle octave only and train for two thirds of the epochs, so that they take a fraction of the time.


# %%
def nuisance_of(flow):
    return lambda x: flow.split(flow(x)[0])[1]


def probe(see, learn, test):
    """Accuracy and cross-entropy of a classifier of notes that sees a part of frames."""
    learn, test = ((see(x).cpu(), notes.cpu()) for x, notes in (learn, test))
    linear = LogisticRegression(C=0.01, max_iter=1000, tol=1e-3)
    classifier = make_pipeline(StandardScaler(), linear).fit(*learn)
    guesses = classifier.predict_proba(test[0])
    return classifier.score(*test), log_loss(test[1], guesses, labels=classifier.classes_)


# %% tags=["hide-input"]
width = min(12, N)
lowest = (N - width) // 2  # of the octave, in notes
highest = lowest + width - 1


def octave_flow(nuisance_weight):
    """A flow for the notes of the octave."""
    smaller = workspace.changed(
        {
            "pitches.lowest": pitches.lowest + lowest,
            "pitches.highest": pitches.lowest + highest,
            "conditional_flow.nuisance_weight": nuisance_weight,
            "conditional_flow.epochs": max(1, 2 * recipe.epochs // 3),
        }
    )
    return smaller.flow("conditional_flow", piano).flow.freeze()


def of_octave(values, sources):
    """Those of the frames that are of the octave, and their notes."""
    inside = (lowest <= sources) & (sources <= highest)
    return values[inside], sources[inside]


def probes(where, flows, learn, test):
    """What the probe finds, in spectra and in nuisance parts."""
    count = len(learn[1].unique())
    found = {"x itself": probe(lambda x: x, learn, test)}
    found |= {name: probe(nuisance_of(flow), learn, test) for name, flow in flows.items()}
    found["guessing"] = 1 / count, math.log(count)
    return {f"{where}, {name}": numbers for name, numbers in found.items()}


# %%
learnt_from = frames.some(~frames.held_out, 3000)
with_q = f"z_ν, λ_ν = {recipe.nuisance_weight:g}"
octave = {with_q: octave_flow(recipe.nuisance_weight), "z_ν, λ_ν = 0": octave_flow(0.0)}
probed = probes("all notes", {with_q: flow}, learnt_from, (x, notes))
probed |= probes("one octave", octave, of_octave(*learnt_from), of_octave(x, notes))
for what, (share, entropy) in probed.items():
    print(f"{what}: read correctly {share:.3f}, cross-entropy {entropy:.3g} nats")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How much of the note an independent linear probe finds: in the spectra themselves, in nuisance parts, and by guessing. Above: all notes; below: one octave, with the classifier in training and without it.", "name": "fig-glow-probe"}, "image": {"alt": "Horizontal bars for all notes and for one octave: the accuracy of the probe on the left, its cross-entropy on the right. In spectra and in nuisance parts almost all is read correctly, by guessing hardly anything."}}
found = pd.DataFrame(probed, ["share of frames read correctly", "cross-entropy (nats)"])
kinds = found.columns.str.partition(", ").codes[2]  # by what is behind it
with plots.shown(9, 3.6, 1, 2, sharey=True) as axes:
    for ax, (what, numbers) in zip(axes, found.iterrows(), strict=True):
        ax.barh(found.columns, numbers, color=[f"C{kind}" for kind in kinds])
        ax.set_xlabel(what)
    axes[0].set_xlim(0, 1)
    ax.invert_yaxis()

# %% [markdown]
# The numbers say how far the separation goes. Where the bars of $\mathbf{z}_\nu$ are far from guessing, it still knows the note.
# Where the bar with the classifier is no lower than the one without, the classifier has hidden nothing that this probe can see.
# That is no surprise: the term is weak beside a likelihood of hundreds of nats or more, and $Q$ is a small network that learns
# while the flow changes under it. A probe that comes later, and has all the time it wants, finds what $Q$ did not.
# And a flow is invertible: what is in $\mathbf{x}$ is in $\mathbf{z}$, in one part or the other or both. So it is certain
# where the note is *set*. That the rest does not *know* it is only encouraged.
#
# ## The same nuisance under other notes
#
# Take a real frame, keep its $\mathbf{z}_\nu$, and write other notes into the semantic part. If the parts were separate, we would
# see and hear the same sound at other pitches. The semantic part of a real frame is only near its one-hot vector, so even under its
# own note the frame changes a little.

# %%
middle = N // 2
frame = frames[frames.held_out & (frames.sources == middle)][3:4]
code = nuisance_of(flow)(frame)


def under_every_note(code):
    """Spectra (N, K): a nuisance code decoded with each note's semantic part."""
    return flow.decode(code.expand(N, 1, -1))[:, 0].clamp(0, 1).cpu()


modes, own_code = map(under_every_note, (torch.zeros_like(code), code))
change = (own_code[middle] - frame[0].cpu()).abs().max()
print(f"under its own note the frame changes by at most {change:.3g}")

known, known_notes = learnt_from
means = torch.stack([known[known_notes == n].mean(dim=0) for n in range(N)]).cpu()


def resemble(spectra, note):
    """The share of spectra (B, K) shaped most like the mean spectrum of that note."""
    similar = spectra @ functional.normalize(means).T
    return (similar.argmax(dim=1) == note).float().mean()


set_to = torch.arange(N)
decoded = {"modes": modes, "one real frame's code": own_code}
for name, spectra in decoded.items():
    print(
        f"{name}: resembles the note that was set {resemble(spectra, set_to):.3f},",
        f"the note of the frame {resemble(spectra, middle):.3f}",
    )
assert resemble(modes, set_to) > 0.5

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Decoded for every note. Left: with nuisance codes of zero, the modes. Right: with the nuisance code of one real frame of the note marked by an arrow.", "name": "fig-glow-swap"}, "image": {"alt": "Two images of spectra side by side, sorted by pitch. Left, partials that rise with pitch. Right, the same with horizontal traces of the partials of the note whose code is used."}}
with plots.shown(10, 3.6, 1, 2, sharey=True) as axes:
    for ax, (name, spectra) in zip(axes, decoded.items(), strict=True):
        plots.dictionary(ax, spectra.T, set_to, front_end, pitches)
        ax.set_title(name)
    style = {"marker": "$↓$", "markersize": 24, "color": "cyan"}
    ax.plot(middle + 0.5, 0.9, **style, transform=ax.get_xaxis_transform())

# %% [markdown]
# If the partials move with the note that is set, $\mathbf{z}_s$ decides. Traces that stay in place come from the
# note that $\mathbf{z}_\nu$ still holds. Which of the two is stronger can be heard, too. The first sound is the frame itself, held;
# the others have its nuisance code and another note. (`synthesise` is that of {doc}`03_note_flows`.)


# %%
def held(spectrum):
    """A spectrum (K,) as a steady sound."""
    return synthesise(spectrum[:, None].expand(-1, 40), front_end)


names = librosa.midi_to_note(pitches.numbers)
sounds = {f"{names[middle]}, the real frame": held(frame[0].cpu())}
for n in evenly(4, N):
    sounds[f"set to {names[n]}"] = held(own_code[n])
players(sounds, front_end.sample_rate)

# %% [markdown]
# ## Samples
#
# Last, whole samples: a note is set, with a little normal noise of variance $N / (2 \lambda_s)$ around its one-hot vector, and
# $\mathbf{z}_\nu$ is drawn.

# %%
some = max(400 // N, 5)
labels = set_to.repeat_interleave(some)
draws = torch.Generator(device).manual_seed(0)
sampled = flow.sample(labels.to(device), draws).cpu()
follows, wild = resemble(sampled.clamp(min=0), labels), share_of_wild(sampled)
print(f"samples that go beyond 2 anywhere, as no spectrum does: {wild:.3f}")
print(f"samples that resemble the note that was set: {follows:.3f}; guessing {1 / N:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Real frames and samples of the one flow, sorted by pitch.", "name": "fig-glow-samples"}, "image": {"alt": "Two images of spectra sorted by pitch: real frames with partials that rise from left to right, and a bright broad onset for each note; samples with the same partials, some of them much noisier."}}
drawn = sampled.unflatten(0, (N, some))
show_by_note({"real frames": frames.of_each_note(some), "samples": drawn}, profile)

# %% [markdown]
# ## Why the gradient is clipped
#
# At the start $\mathbf{z}_s$ is arbitrary, and $\lambda_s$ is ten thousand. So the first gradients are huge. Adam {cite}`kingma2015`
# divides a gradient by the root of a running mean of its square, and that mean remembers about a thousand steps. Huge first
# gradients hold back all that follow. Clipping scales a gradient down to a largest norm, and leaves its
# direction. Here are the first steps of a fresh flow, with clipping and without:

# %%
training_rows = np.flatnonzero(~frames.held_out)
norms, losses = pd.DataFrame(), pd.DataFrame()
for name, clipping in {"clipped at 100": 100, "not clipped": math.inf}.items():
    order = torch.Generator().manual_seed(0)
    fresh = training.build(recipe, N, K, order).to(device)
    adam = torch.optim.Adam(fresh.parameters(), lr=3e-4)
    for step in range(40):
        batch = torch.randint(len(training_rows), (128,), generator=order)
        loss = -fresh.log_prob(*frames.labelled(training_rows[batch])).mean()
        adam.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(fresh.parameters(), clipping)
        adam.step()
        norms.loc[step, name], losses.loc[step, name] = norm.item(), loss.item()
    print(
        f"{name}: norm of the first gradient {norms[name][0]:.3g},",
        f"loss of the last ten steps {losses[name][-10:].mean():.3g} nats a frame",
    )
    print(f"  steps with a norm above 100: {(norms[name] > 100).mean():.3f} of all")
clipped, unclipped = losses[-10:].mean()
assert clipped < unclipped
assert norms["not clipped"][0] > 1000

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The first steps of training. Left: the norm of the gradient, before clipping, on a logarithmic axis. Right: the loss, cut off above.", "name": "fig-glow-clipping"}, "image": {"alt": "Left, two curves of the gradient's norm over training steps, far above the dotted line of the clipping, which rise for a few steps and then fall. Right, two falling curves of the loss; the one with clipping falls faster and ends lower."}}
with plots.shown(9, 3, 1, 2) as (left, right):
    norms.plot(ax=left, logy=True, xlabel="step", ylabel="norm of the gradient")
    left.axhline(100, color=plots.INK, linestyle=":")
    seen = np.min(losses) - 200, np.quantile(losses, 0.75)
    losses.plot(ax=right, xlabel="step", ylabel="loss (nats a frame)", ylim=seen)

# %% [markdown]
# Where the norm stays above the limit, clipping makes all gradients equally long, and only their direction counts. The released code does not clip this flow {cite}`ddscode`; with thousands of epochs it need not.
#
# ## What was learnt
#
# * One flow can hold all notes: a fixed part of the latent vector says which, the rest is a code.
# * Its loss is a conditional log-likelihood. A classifier in training is meant to keep the note out of the rest.
# * An independent probe tells whether it did. In the `laptop` profile it did not: the probe reads the note from the rest
#   about as well as from the spectrum, with the classifier about as well as without, and the classifier's own cross-entropy did not show it.
#
# **Next:** {doc}`07_dds3` searches the nuisance codes of this flow.
