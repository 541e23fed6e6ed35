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
# part of the latent vector fixed, the part that says which note it is. Then we look closer at two choices that are easily
# overlooked: how activations are kept positive, and how much the likelihood weighs.

# %% tags=["parameters"]
profile = "laptop"  # the name of a profile or the path of a .yaml file
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

# %% tags=["hide-input"]
import math
from dataclasses import replace

from ddslib.methods.registry import find
from ddslib.pages import figures, plots, reports
from ddslib.pages.chapter import open_study
from ddslib.search.decoded import SharedDictionary

import torch

study = open_study("dds3", globals())
fit, device = study.settings, study.workspace.device
X, Y, flow = study.X, study.Y, study.flow
draws = study.draws  # random numbers, the same at every call
N, C, (K, T) = len(Y), fit.components, X.shape
D = flow.code_dimensions
print(f"{study.title}: {K} bins × {T} frames")
print(f"C = {C} entries for each of N = {N} notes; codes of D = K − N = {D} numbers")

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
first = study.first_chord()
frames = first.shape[1]
one_hot = torch.eye(N, device=device).repeat_interleave(C, dim=0)
codes = torch.zeros(N * C, D, device=device)
W = flow.inverse(torch.cat([one_hot, codes], dim=1)).clamp(min=0).T
H = torch.rand(N * C, frames, generator=draws(), device=device)  # the same each time
X_hat = W @ H
print(f"W: {K} bins × {N * C} entries, H: {N * C} entries × {frames} frames")

dictionary = SharedDictionary(flow, C)
dictionary.refresh()
assert dictionary.codes.shape == (N, C, D)
assert torch.allclose(X_hat, dictionary.mix(H), rtol=1e-3, atol=1e-3)

# %% [markdown]
# The cost, the shares and the start of $\mathbf{H}$ are those of {doc}`05_dds2`, and so is the class in the library.
# The likelihood is that of the nuisance code, over $D = K - N$ dimensions.

# %%
share = (H / (H.sum(dim=0) + 1e-3)).sum(dim=1)
surprisal = codes.square().sum(dim=1) / (2 * D) + math.log(2 * math.pi) / 2
assert torch.allclose(
    (share * surprisal).sum(), dictionary.penalty(H).value.float(), rtol=1e-4
)

# %% [markdown]
# **Does an entry stay with its note?** The flow is a bijection. Whatever the nuisance code, running the entry
# forwards gives back the one-hot vector, up to rounding. We try codes as long as those of real frames may be:

# %%
far = torch.randn(N, C, D, generator=draws(), device=device)


def semantic_part(spectra):
    """What the flow says about the note of spectra (N, C, K): (N, C, N)."""
    return flow.split(flow(spectra.flatten(0, 1))[0])[0].unflatten(0, (N, C))


decoded = flow.decode(far)
error = (semantic_part(decoded).flatten(0, 1) - one_hot).abs().max()
print(f"largest deviation from the one-hot vector: {error:.1e}")
assert error < 0.05

# %% [markdown]
# So the note of an entry never changes, *as the flow sees it*. That is a weaker promise than it sounds. The entry
# that is used is the positive part, and the flow may see another note in it. And the flow knows notes only from
# frames like those it was trained on.

# %%
seen = semantic_part(decoded.clamp(min=0)).argmax(dim=2)
same = (seen == torch.arange(N, device=device)[:, None]).float().mean()
print(f"positive parts in which the flow sees the same note: {same:.3f}")

# %% [markdown]
# ## The search

# %%
result = study.result
reports.search(study)
assert result.distance.min() < 0.7 * result.distance[0]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it.", "name": "fig-dds3-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes that fall by a factor of three to four over the iterations."}}
figures.cost(study)

# %% [markdown]
# ## The dictionary before and after

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The C entries of every note, scaled to norm 1. Left: at the start, where those of a note are equal. Right: at the end.", "name": "fig-dds3-dictionary"}, "image": {"alt": "Two images of spectra sorted by pitch. Left, clean partials in steps, one step a note. Right, the same partials with differences between the entries of a step, some of them broad or noisy."}}
before, after = study.entries_before(), study.entries_after()
figures.dictionaries(study, before, after)

# %% [markdown]
# How different have the entries of a note become? The cosine between two of them is 1 for the same shape, and 0 for
# spectra without a common partial.

# %%
cosines = reports.cosines(study, after)
assert C == 1 or cosines.min() < 0.99

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The most active note. Above: its mode, its entries and a frame of the held-out piano, each scaled to a maximum of 1; dotted lines mark its partials. Below: how active each entry is. The grey background marks where the note sounds.", "name": "fig-dds3-note"}, "image": {"alt": "Above, spectra of one note over frequency: the mode, several thin curves of the entries that were found and a frame, all with peaks at the dotted lines. Below, the activity of each entry over time as lines, high where the background is grey."}}
figures.most_active_note(study, before, after)

# %% [markdown]
# ## What the codes did
#
# Again we compare with the latents of validation frames. A code is the nuisance part of a latent vector, so we take that
# part of theirs.


# %%
def latents(flow, n, x):  # of frames x (count, K) of note n; and log p(x | n) in nats
    z, log_det = flow(x)
    return flow.split(z)[1], flow.log_density(z, log_det, torch.full((len(x),), n))


lengths, nats = study.beside_frames(result.codes, latents)
reports.codes(study, lengths, nats)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each entry. Left: distance of its code from the mode. Right: its log-likelihood. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds3-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes, below the dashed line of the square root of D, beside the black bars of real frames. Right, the log-likelihoods of the entries, beside the black bars of real frames."}}
figures.codes(study, lengths, nats)

# %% [markdown]
# The likelihood of an entry is conditional on its note, $\log p(\mathbf{x} \mid n)$, and so is that of the frames. The
# semantic part of an entry is exactly the one-hot vector; that of a frame is only near it.
#
# ## Activations and reconstruction
#
# The $C$ rows of a note are summed, each with the norm of its entry:
#
# $$ A_{nt} = \sum_{c} \lVert \mathbf{w}_{nc} \rVert \, H_{nc,t} $$

# %%
A, H = result.A, result.H.unflatten(0, (N, C))
summed = (after.norm(dim=1)[:, :, None] * H).sum(dim=1)
assert torch.allclose(summed, A, rtol=1e-3, atol=1e-4)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll.", "name": "fig-dds3-activations"}, "image": {"alt": "Above, an image of activations over time and pitch in which the notes of the chords stand out as bars; below, the piano roll with the same bars."}}
figures.activations(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds3-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are teal, and several turn yellow before they end; patches of pale red on other notes, and much white between them."}}
figures.attribution(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mixture, what DDS-3 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds3-fit"}, "image": {"alt": "Three spectrograms: the mixture, its reconstruction, which looks much like it, and their difference: faint streaks, and a few strong blue bars where the reconstruction is empty before a chord ends."}}
figures.fit(study)

# %% [markdown]
# A note that turns yellow vanishes before it ends. The section on positivity below tells why.
#
# ## How good is it?

# %%
reports.measured(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds3-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis: nearly flat, below a dotted line near one."}}
figures.sparsity(study)

# %% [markdown]
# The same chords, by all methods of the paper:

# %%
rows = reports.methods(study, "nmf", "dds1", "dds2", "dds3")
table = rows[["psa", "average_precision"]]
for other in ("nmf", "dds2"):
    psa, ranked = table.loc["dds3"] - table.loc[other]
    gains = f"PSA {psa:+.3f}, average precision {ranked:+.3f}"
    print(f"DDS-3 minus {find(other).label}: {gains}")

# %% [markdown]
# In the `laptop` profile DDS-3 has the highest PSA here, and the lowest average precision. Part of both may come from the
# way in which its activations are kept positive. NMF has another way, as the next section shows. And this is one mixture
# with one seed: {doc}`08_comparison` asks the question on more of them.
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
# needed. With the positive part, an activation below zero has no gradient any more. What is left of Adam's momentum only
# takes it further down, and it never returns. In the mixture above:

# %%
silent = H == 0
gone = silent.all(dim=2)  # (N, C): rows of H
print(
    f"fit: {fit.positivity}\n"
    f"activations at zero: {silent.float().mean():.3f} of all\n"
    f"rows of H that are zero in all frames, silent for good: {gone.sum()} of {N * C}\n"
    f"notes that have lost all of their entries: {gone.all(dim=1).sum()} of {N}\n"
    f"sounding cells of A that are at zero: {(A == 0)[Y].float().mean():.3f}"
)

# %% [markdown]
# A sparse decomposition is made of zeros. But these depend on the order of events: what was superfluous *early* in the
# search stays silent to its end. Here are both means on the first chords, for a few iterations, with all else equal. For
# the first we also stop halfway, to see that no activation comes back.

# %%
few = replace(study.experiment, chords=min(2, study.experiment.chords))
mixture = study.workspace.mixture(few)


def search(**changes):
    """A brief decomposition of the first chords, with other settings."""
    other = {
        f"dds3.{key}": value for key, value in ({"iterations": 60} | changes).items()
    }
    return study.workspace.changed(other).decomposition(few)


def report(name, short):
    quality = reports.in_short(mixture.X, mixture.Y, short.X_hat, short.A)
    print(f"{name:12} {quality}, zeros {(short.H == 0).float().mean():.3f}")


both = {means: search(positivity=means) for means in ("relu", "projection")}
for means, short in both.items():
    report(means, short)
halfway = search(iterations=30, positivity="relu").H == 0
came_back = halfway & (both["relu"].H > 0)
print(f"relu: zeros halfway {halfway.sum()}, came back {came_back.sum()}")
assert not came_back.any()

# %% [markdown]
# Read the two measures together. PSA asks whether the activity that is there is right. It gains from whatever
# silences wrong notes, and does not mind if a right one is silenced with them. Average precision does: a sounding
# cell at zero is ranked last. So a choice may raise the one and lower the other, and a table with PSA alone would
# call that progress. On these few chords `relu` may be ahead in both; on all of them it is not: {doc}`08_comparison`.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The first chords by both means. Teal: right; red: wrong; yellow: missed.", "name": "fig-dds3-positivity"}, "image": {"alt": "Two piano rolls in colours side by side. Both have the bars of the sounding notes in teal; the right one, of projection, has more or different pale red cells than the left one, of relu."}}
with plots.shown(10, 3.4, 1, 2, sharey=True) as axes:
    for ax, (means, short) in zip(axes, both.items(), strict=True):
        plots.attribution(ax, short.A, mixture.Y, study.front_end, study.pitches)
        ax.set_title(means)
    axes[0].get_legend().remove()

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
# At the mode each active frame already costs $\lambda \cdot \tfrac{1}{2} \log 2\pi$, and a frame without activity costs
# nothing. So what the codes add is next to nothing, and hardly holds an entry back. The same chords with a weight of
# $10^{-4}$ and with a weight of 1:

# %%
used = {}
for weight in (1e-4, 1.0):
    short = search(likelihood_weight=weight)
    used[weight] = short.codes.norm(dim=2).median()
    report(f"λ = {weight:g}", short)
    print(f"{'':12} median distance from the mode {used[weight]:.3g}")
assert used[1.0] < used[1e-4]

# %% [markdown]
# A larger weight keeps the entries nearer to the mode, and the error grows. What it does to the attribution depends on
# what held the entries before: the size of the flow, its training, or nothing.
#
# The penalty is the likelihood of the *code*. That of the *spectrum* has the determinant too: where the flow squeezes
# many spectra into few codes, a spectrum is more likely than its code says. The same weight of 1, with the determinant:

# %%
whole = search(likelihood_weight=1.0, log_determinant=True)
report("λ = 1, det", whole)
for name, found_codes in (("without", short.codes), ("with", whole.codes)):
    of_spectra = flow.log_det(flow.decode(found_codes)) / D
    print(f"{name} it: log-determinant {of_spectra.median():.3g} nats per dimension")

# %% [markdown]
# With this weight the determinant wins over the fit: in the `laptop` profile the error more than doubles, and both
# measures of attribution fall. The determinant also costs one more pass through the flow in every iteration. So it is left
# out by default.
#
# ## What it costs

# %% tags=["nbval-ignore-output"]
for method in ("dds2", "dds3"):
    print(f"{method}: {reports.pace(rows.loc[method])}")

# %%
for method, flows in (("dds2", f"{N} flows"), ("dds3", "one flow")):
    print(f"{method}: {rows.parameters[method] / 1e6:.3g} million numbers in {flows}")
assert flow.size() == rows.parameters["dds3"]

# %% [markdown]
# The parameters of $N$ flows grow with the number of notes. Those of the one flow do not. It may be larger than any of the
# $N$, and still smaller than all of them together.
#
# ## What was learnt
#
# * The note of an entry is a part of its latent vector that the search does not touch. So the entry stays with its note,
#   but for what the positive part changes.
# * One flow takes the place of $N$, and the rest of the algorithm is that of DDS-2.
# * More of its activity is on right notes than with any other method so far, and it ranks sounding cells worse. PSA alone
#   would hide that.
# * `relu` silences activations for good. That is a source of sparsity, and of missed notes.
# * $\lambda = 10^{-4}$ hardly binds. Nearly all that keeps entries piano-like is the flow and the start at its mode.
#
# **Next:** {doc}`08_comparison` sets the four methods side by side, and a fifth beside them.
