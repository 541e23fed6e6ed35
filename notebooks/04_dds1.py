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
profile = "laptop"  # the name of a profile or the path of a .yaml file
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

# %% tags=["hide-input"]
import math
from dataclasses import replace

from ddslib.config import load_profile
from ddslib.machine.device import policy
from ddslib.machine.gradients import saved_bytes
from ddslib.methods import registry
from ddslib.methods.dds1 import FrameDictionary
from ddslib.pages import figures, plots, reports
from ddslib.pages.chapter import evenly, open_study
from ddslib.search.search import decompose

import numpy as np
import torch
from scipy.optimize import nnls

study = open_study("dds1", globals())
fit, device = study.settings, study.workspace.device
X, Y, flow = study.X, study.Y, study.flow
draws = study.draws  # random numbers, the same at every call
N, (K, T) = len(Y), X.shape
print(f"{study.title}: {K} bins × {T} frames")

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
first = study.first_chord()
frames = first.shape[1]
codes = torch.zeros(N, frames, K, device=device)
spectra = flow.inverse(codes)  # g_n(z_nt), all notes at once
decoded = spectra.clamp(min=0)
H = torch.rand(N, frames, generator=draws(), device=device)  # the same each time
X_hat = (H[:, :, None] * decoded).sum(dim=0).T
below = (spectra < 0).float().mean()
print(
    f"{N} notes × {frames} frames × {K} bins: "
    f"{decoded.numel()} numbers in the dictionary\n"
    f"share of bins below zero before the positive part: {below:.3f}"
)

dictionary = FrameDictionary(flow, frames)
dictionary.refresh()
assert torch.allclose(X_hat, dictionary.mix(H), rtol=1e-4, atol=1e-4)

# %% [markdown]
# ## The cost
#
# A flow can return any spectrum at all if its code is far enough out. The likelihood is there to keep the entries
# piano-like. A standard normal code of $D$ numbers (here $D = K$) has a *surprisal*, which grows with its length. Taken
# per dimension, in nats:
#
# $$ e(\mathbf{z}) = -\frac{\log \mathcal{N}(\mathbf{z}; 0, \mathbf{I})}{D}
#    = \frac{\lVert \mathbf{z} \rVert^2}{2D} + \frac{\log 2\pi}{2} $$
#
# It is smallest at zero. The *penalty* weighs each surprisal with the entry's share of the frame, so that an unused entry
# may be as odd as it likes. With $H_{nt} = a_{nt}$:
#
# $$ J = \lVert \mathbf{X} - \hat{\mathbf{X}} \rVert_F + \lambda \sum_{nt} \omega_{nt}\, e(\mathbf{z}_{nt}),
#    \qquad \omega_{nt} = \frac{H_{nt}}{\sum_m H_{mt} + 10^{-3}} $$
#
# The determinant of the flow is not in this cost: the likelihood is that of the code, not that of the spectrum. (The
# setting `log_determinant` adds it.)


# %%
def reconstruction(codes, H):
    return (H[:, :, None] * flow.inverse(codes).clamp(min=0)).sum(dim=0).T


def penalty(codes, H):
    surprisal = codes.square().sum(dim=-1) / (2 * K) + math.log(2 * math.pi) / 2
    share = H / (H.sum(dim=0) + 1e-3)
    return (share * surprisal).sum()


def cost(codes, H):
    distance = (first - reconstruction(codes, H)).norm()
    return distance + fit.likelihood_weight * penalty(codes, H)


somewhere = 0.1 * torch.randn(codes.shape, generator=draws(), device=device)
dictionary.codes.copy_(somewhere)
dictionary.refresh()
print(f"λ = {fit.likelihood_weight:g}")
for name, z in (("at zero", codes), ("somewhere", somewhere)):
    print(f"codes {name}: the penalty is {penalty(z, H):.3f}, for {frames} frames")
assert torch.allclose(
    dictionary.penalty(H).value.float(), penalty(somewhere, H), rtol=1e-4
)

# %% [markdown]
# ## The start
#
# All codes start at zero. There the prior has its mode, so we call $g_n(\mathbf{0})$ the *mode* of note $n$: the
# spectrum from which its flow starts. The activations start small and random:
#
# $$ \mathbf{z}_{nt} = \mathbf{0}, \qquad H_{nt} \sim U(0, 1) \cdot \sqrt{\bar{X} / N} $$
#
# where $\bar{X}$ is the mean of $\mathbf{X}$ and $N$ the number of entries in a frame. The $\mathbf{H}$ above was drawn
# from $U(0, 1)$.

# %%
largest = (first.mean() / N).sqrt()
H_start = H * largest
dictionary = FrameDictionary(flow, frames)
assert not dictionary.codes.any()
assert torch.allclose(H_start, dictionary.start(first, draws()))
print(f"activations start between 0 and {largest:.3g}")

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
# `decompose` is the same function as for NMF, with another dictionary. The gradient of the product with $\mathbf{H}$
# is written out there, and only the rest is left to automatic differentiation.

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
few = torch.zeros(N, 4, K, device=device, requires_grad=True)
at_once = saved_bytes(lambda: flow.inverse(few)) / few.shape[1] * T
print(
    f"{N * T} codes, {N * T * K / 1e6:.3g} million numbers to search\n"
    f"{N * T * K / X.numel():.3g} code numbers for each number of X\n"
    f"codes, or entries: {4 * N * T * K / MiB:.3g} MiB each\n"
    f"kept for the gradient: {at_once / MiB:.3g} MiB"
)

# %% [markdown]
# The library therefore decodes block by block: some notes, some frames. What a block computes stays in the processor's
# caches, which is faster. In a long recording all blocks together would need too much memory. Then what a block
# computed is dropped, and computed once more when its gradient is wanted. That changes the memory and the time, not the
# result; tests hold it to that.

# %%
print(f"blocks of about {policy(device).codes_at_a_time} codes")
print(f"kept: up to {policy(device).gradient_bytes / MiB:.0f} MiB")

# %% [markdown]
# Now the whole mixture. The paper allows the search 1000 iterations. The `laptop` profile gives it far fewer, and one
# random start, because this is by far the most expensive search of the book. Keep that in mind for everything below.
#
# Where the cost has stayed above its lowest value for more than ten iterations, the step size is halved.

# %%
result = study.result
A, distance = result.A, result.distance
print(f"‖X‖ = {X.norm():.3g}: the distance of an empty reconstruction")
reports.search(study)
print(
    f"distance in the last iteration: {distance[-1]:.3g}\n"
    f"iterations in which the distance rose: {int((distance.diff() > 0).sum())}"
)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it. At λ this small the two curves lie on each other. The dotted line is the distance of an empty reconstruction.", "name": "fig-dds1-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes: the cost shoots up by two orders of magnitude, then falls far below a dotted horizontal line, with many narrow peaks on the way."}}
figures.cost(study, silence=float(X.norm()))

# %% [markdown]
# ## The dictionary before and after
#
# The search starts with the same $N$ spectra in every frame. It ends with $N \cdot T$ different ones. An entry's norm
# means nothing by itself, since a small activation undoes a large entry. So the entries are shown scaled to norm 1.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Entries scaled to norm 1. Left: the mode of every note. Right: what the search made of it, in eight frames of the mixture for each note.", "name": "fig-dds1-dictionary"}, "image": {"alt": "Two images of spectra side by side, sorted by pitch. Left, one clean spectrum for each note, with partials rising from left to right. Right, eight of each note; the partials still rise, fainter, among isolated bright spots."}}
modes, found = decoded[:, :1].mT.cpu(), study.entries_after()
figures.dictionaries(study, modes, found[:, :, evenly(8, T)])

# %% [markdown]
# One of them in detail. A chord of the held-out piano is a sum, so its frame also has the peaks of the other notes.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A note that sounds, in one frame: the mode of its flow, the entry that was found, and the frame itself, each scaled to a maximum of 1. Dotted lines mark the partials of the note.", "name": "fig-dds1-entry"}, "image": {"alt": "Three curves over frequency: the mode of a note with peaks on the dotted lines of its partials, the entry that was found, which follows them and adds irregular bumps, and a frame of the mixture, whose further peaks belong to other notes."}}
t = frames // 3
note = int(Y[:, t].nonzero()[0])
figures.entry(study, note, t, modes[note, :, 0], found[note, :, t])

# %% [markdown]
# ## What the codes did
#
# How far did the codes go? A standard normal vector of $D$ numbers has a length near $\sqrt{D}$: nearly all of its
# volume is there, and almost none near the mode. Real frames have latents, too: we run the flows forwards over
# validation frames. Theirs are shorter, but of that order. (Training added noise to its frames, so a frame without
# noise is more regular than what the flow was taught.)
#
# A length says nothing about the determinant. So we also ask the flows for the full log-likelihood of what was
# found, $\log p(g_n(\mathbf{z}))$, in nats per dimension, in some of the frames. Validation frames show what
# real spectra get. The mode of the prior need not be the most likely spectrum, since the determinant counts, too.
# Medians:

# %%
some_codes = result.codes[:, evenly(12, T)]
at_modes = torch.zeros_like(some_codes)
lengths, nats = study.beside_frames(some_codes)
reports.codes(study, lengths, nats)
of_modes = flow.log_prob(flow.decode(at_modes[:, :1])) / K
print(f"log p of the modes, nats per dimension: {of_modes.median():.3g}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each of some frames. Left: distance of the codes from the mode. Right: log-likelihood of the entries. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds1-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes lie below the black bars of real frames for low notes, level with them for the highest, and far below the dashed line. Right, most log-likelihoods lie at the black bars, and a band of outliers far below. Dots of sounding and of silent notes look alike."}}
figures.codes(study, lengths, nats)

# %% [markdown]
# Most entries are as likely as real frames. Some are not at all: they lie in a band far below, which no median shows.
#
# How far could a code go? With so small a $\lambda$ the penalty hardly holds it. But in an iteration Adam moves it, in
# every dimension, by about the step size. So a code gets no further than about
#
# $$ \text{iterations} \times \text{step size} \times \sqrt{D} $$

# %%
reach = result.iterations * fit.step_size * math.sqrt(K)
longest = result.codes.norm(dim=2).max()
print(f"the codes can go {reach:.3g} far; the longest has {longest:.3g}")
assert longest < 1.5 * reach

# %% [markdown]
# The codes stay far within that. Their steps go back and forth, and an entry that is no longer active gets no gradient.
#
# ## Activations and reconstruction

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll. The colours end at the 99th percentile, since a few values are far larger.", "name": "fig-dds1-activations"}, "image": {"alt": "Above, an image of activations over time and pitch: bright bars where the notes of the piano roll below lie, and many weaker bars of other notes with the same beginnings and ends."}}
figures.activations(study, brightest=A.quantile(0.99))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll, as in the chapter on NMF. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds1-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are mostly teal, with some yellow; bars of pale red, on other notes, fill much of the rest."}}
figures.attribution(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mixture, what DDS-1 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds1-fit"}, "image": {"alt": "Three spectrograms: the mixture, its reconstruction, which looks much like it, and their difference, which is pale throughout, with thin blue and red streaks along partials."}}
figures.fit(study, "X̂")

# %% [markdown]
# ## How good is it?
#
# In DDS-1, $A_{nt} = \lVert \mathbf{w}_{nt} \rVert\, H_{nt}$: each entry has its own norm, and there is nothing to
# sum.

# %%
assert torch.allclose(found.norm(dim=1) * result.H, A, rtol=1e-3, atol=1e-4)
reports.measured(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds1-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis, which starts at about one half and rises slowly towards a dotted line near one."}}
figures.sparsity(study)

# %% [markdown]
# The same chords, by the methods so far:

# %%
rows = reports.methods(study, "nmf", "dds1")
print(f"PSA of DDS-1 minus NMF: {rows.psa['dds1'] - rows.psa['nmf']:+.3f}")

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
W = modes[:, :, 0].T.numpy()
H_of_modes = np.stack([nnls(W, x)[0] for x in X.T.numpy()]).T
A_of_modes = np.linalg.norm(W, axis=0)[:, None] * H_of_modes
print("the modes, with codes left alone:")
print(f"  {reports.in_short(X, Y, W @ H_of_modes, A_of_modes)}")
print(f"the codes set free:\n  {reports.in_short(X, Y, result.X_hat, A)}")

# %% [markdown]
# Two things differ here: the codes, and the search of the activations, which is exact for the modes and cut short for
# DDS-1. So some of the wrong activity may be what the search has not yet taken away. Still, a smaller error is not a
# better attribution. Each entry takes what it can of the residual. Within one frame, nothing contradicts a wrong note that
# does: a note an octave or a twelfth away, whose partials coincide with those of a sounding note, explains them just as
# well. Here is the frame whose own PSA is the median of all frames:

# %%
own_psa = (A * Y).sum(dim=0) / A.sum(dim=0)
t = own_psa.argsort()[T // 2]
activity, right = A[:, t], Y[:, t]
largest_first = activity.sort(descending=True).values.cumsum(0)
half = (largest_first < activity.sum() / 2).sum() + 1
share = activity[right].sum() / activity.sum()
print(f"{int(right.sum())} notes sound, with {share:.3f} of the frame's activity")
print(f"half of the activity is on the {half} strongest of {N} notes")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One frame. Left: its activity by note. Right: the frame, and what the sounding and the silent notes add to its reconstruction.", "name": "fig-dds1-frame"}, "image": {"alt": "Left, bars of activity over pitch, teal and high for the few sounding notes, red and lower for many others. Right, three curves over frequency: the frame with its sharp partials, and below it the sum of the sounding notes' entries and that of the silent notes', which share the partials between them."}}
used = found[:, :, t] * result.H[:, t, None]
with plots.shown(10, 3.2, 1, 2, width_ratios=(2, 3)) as (by_note, by_bin):
    colours = np.where(right, plots.RIGHT, plots.WRONG)
    by_note.bar(study.pitches.numbers, activity, color=colours)
    by_note.set_xticks(*plots.octaves(study.pitches))
    by_note.set(xlabel="pitch", ylabel="activity A")
    plots.spectrum(by_bin, X[:, t], study.front_end, "frame", color=plots.INK)
    for kind, notes in (("sounding", right), ("silent", ~right)):
        plots.spectrum(
            by_bin, used[notes].sum(dim=0), study.front_end, f"from {kind} notes"
        )
    by_bin.legend()

# %% [markdown]
# **Where the flow is steep.** A step of the codes moves all $K$ numbers of a code at once. Near the mode that changes
# a spectrum by little. Elsewhere a flow can be steep. We move each code by one step in a random direction. How far does its
# spectrum go, compared with its own norm?

# %%
signs = torch.randint(0, 2, some_codes.shape, generator=draws(), device=device)
step = fit.step_size * (2 * signs - 1)
for name, z in (("at the modes", at_modes), ("found", some_codes)):
    here, there = flow.decode(z), flow.decode(z + step)
    moves = (there - here).norm(dim=2) / here.norm(dim=2)
    print(
        f"codes {name}: the spectrum moves by {moves.median():.3g} of its norm, "
        f"at most {moves.max():.3g}"
    )

# %% [markdown]
# A single code in a steep place is enough. Its spectrum jumps, and with it the distance. The distance is one norm over
# all frames, and the gradient of each is divided by it. So one bad frame makes the gradients of all others small. That may happen in any iteration, even
# the last one. This is why the search returns its iterate of lowest cost, and not the last. A smaller step jumps less, but
# does not get as far in as many iterations. Three frames, at the profile's step size and at a tenth of it:

# %%
few = evenly(3, frames)
x, y = first[:, few], Y[:, few]


def search(own):
    return decompose(x, FrameDictionary(flow, len(few)), own, generator=draws())


for size in (fit.step_size, fit.step_size / 10):
    short = search(replace(fit, iterations=60, step_size=size))
    rise = (short.distance[1:] / short.distance[:-1]).max()
    print(f"step {size:g}: largest rise by a factor of {rise:.3g}")
    print(f"  {reports.in_short(x, y, short.X_hat, short.A)}")

# %% [markdown]
# **Where the steps shrink.** The released code takes a thousand steps, each a small part of those in `laptop`. Whenever
# the cost has stayed above its lowest value for more than ten iterations, the steps are halved. A short jump halves
# nothing. But a search that does not get back below its lowest cost has its steps halved again and again. In an iteration
# Adam moves an activation by about one step. So with steps $\alpha_i$, no activation grows much beyond
#
# $$ H_{nt} \lesssim H_{nt}^{\text{start}} + \sum_i \alpha_i $$
#
# Here are the same three frames with the steps of this profile, and with those of the released code. The setting
# `start = "fitted"` is ours: before the search, the activations are fitted to the modes, which is NMF with one entry for
# each note. The last row shows that start alone. (*AP* is the average precision.)

# %%
released = registry.settings(load_profile("paper"), "dds1")
searches = {
    "profile's steps": search(fit),
    "released steps": search(replace(released, start="random")),
    "released steps, fitted start": search(replace(released, start="fitted")),
    "fitted start alone": search(replace(released, start="fitted", iterations=1)),
}
reports.steps(searches, x, y)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Three searches for the same three frames. Left: the relative distance by iteration. Right: the step size, which never grows.", "name": "fig-dds1-steps"}, "image": {"alt": "Two panels over iterations, on logarithmic axes. Left: with the profile's steps the distance shoots up at first, has a few peaks, and ends lowest. With the released steps it falls slowly, has many peaks on the way, and levels off highest; from the fitted start it is lower, but for its peaks. Right: the profile's steps stay as they are. The released ones go down in stairs, and from the random start they plunge at the end."}}
with plots.shown(10, 3, 1, 2) as (distances, sizes):
    for name, short in list(searches.items())[:-1]:  # the last is a start alone
        plots.cost_history(distances, short.distance / x.norm().cpu(), name)
        plots.cost_history(sizes, short.step_size)
    distances.set_ylabel("‖X − X̂‖ / ‖X‖")
    sizes.set_ylabel("step size")
    distances.legend()

# %% [markdown]
# Small steps jump, too. With the released steps, the search from small activations comes to rest before they have
# grown, and tells notes apart badly. From fitted activations, the same steps reach nearly the PSA of the profile's. The
# start alone does not explain that: its PSA is the lowest of the four, and its error the largest. Only its average precision
# is high. {doc}`08_comparison` meets the same at the paper's size.
#
# ## What it costs

# %% tags=["nbval-ignore-output"]
print(f"{reports.pace(rows.loc['dds1'])}, for {T} frames")

# %%
print(
    f"{rows.parameters['dds1'] / 1e6:.3g} million numbers in the {N} flows\n"
    f"{N * T * K / 1e6:.3g} million numbers in the codes"
)

# %% [markdown]
# Time and memory of the search grow with the length of the recording: every frame brings $N$ codes of its own.
#
# ## What was learnt
#
# * A flow run backwards is a dictionary whose entries can change, and automatic differentiation finds how.
# * With a code for every note and every frame there are far more unknowns than data. Nothing ties an entry to what
#   its note sounds like in the next frame.
# * The error falls by much. The attribution does not follow: notes that do not sound help to explain the partials of
#   those that do.
# * The search jumps where a flow is steep, in any iteration. So the iterate of lowest cost is what counts.
# * Steps that start small may shrink before the activations have grown. A fitted start helps.
#
# **Next:** {doc}`05_dds2` lets the frames share their entries.
