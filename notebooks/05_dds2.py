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
# **You need:** {doc}`04_dds1`, whose weakness is mended here. **You will see:** a dictionary of a fixed size that
# adapts to the piano at hand, whether identical entries of a note grow apart, and what sharing changes.

# %% tags=["parameters"]
profile = "laptop"  # the name of a profile or the path of a .yaml file
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

# %% tags=["hide-input"]
import math
from dataclasses import replace

from ddslib.methods.dds1 import FrameDictionary
from ddslib.pages import figures, reports
from ddslib.pages.chapter import evenly, open_study
from ddslib.search.decoded import SharedDictionary
from ddslib.search.search import decompose

import pandas as pd
import torch

study = open_study("dds2", globals())
fit, device = study.settings, study.workspace.device
X, Y, flow = study.X, study.Y, study.flow
draws = study.draws  # random numbers, the same at every call
N, C, (K, T) = len(Y), fit.components, X.shape
print(f"{study.title}: {K} bins × {T} frames")
print(f"C = {C} entries for each of N = {N} notes")

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
first = study.first_chord()
frames = first.shape[1]
codes = torch.zeros(N, C, K, device=device)
W = flow.inverse(codes).clamp(min=0).flatten(0, 1).T
H = torch.rand(N * C, frames, generator=draws(), device=device)  # the same each time
X_hat = W @ H
print(f"W: {K} bins × {N * C} entries, H: {N * C} entries × {frames} frames")

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
surprisal = codes.flatten(0, 1).square().sum(dim=1) / (2 * K) + math.log(2 * math.pi) / 2
assert torch.allclose(
    (share * surprisal).sum(), dictionary.penalty(H).value.float(), rtol=1e-4
)

# %% [markdown]
# **What sharing saves.** The unknowns are the codes and the activations. The number of codes no longer grows with the
# recording. The longer it is, the fewer unknowns there are for each number of $\mathbf{X}$:

# %%
five_minutes = 5 * 60 * study.front_end.sample_rate // study.front_end.hop
for what, t in (
    ("unknown numbers for each number of X", T),
    ("the same for 5 minutes of music", five_minutes),
):
    dds1, dds2 = N * t * (K + 1) / (K * t), N * C * (K + t) / (K * t)
    print(f"{what}:\n  DDS-1 {dds1:.3g}, DDS-2 {dds2:.3g}")
print(f"codes to decode in an iteration: DDS-1 {N * T}, DDS-2 {N * C}")

# %% [markdown]
# ## The start
#
# The codes start at zero, so the $C$ entries of a note are one and the same spectrum, its mode. Only the activations
# are random:
#
# $$ H_{jt} \sim U(0, 1) \cdot \sqrt{\bar{X} / (N C)} $$
#
# The $\mathbf{H}$ above was drawn from $U(0, 1)$.

# %%
H_start = H * (first.mean() / (N * C)).sqrt()
assert torch.allclose(H_start, dictionary.start(first, draws()))
before = study.entries_before()  # (N, K, C)
spread = (before - before[:, :, :1]).abs().max()
print(f"largest difference between entries of one note: {spread:.3g}")
assert spread < 1e-5

# %% [markdown]
# So only the random activations can part them. The gradient for an entry is the residual, weighted by that entry's row of
# $\mathbf{H}$. Entries of the same spectrum with the same activations have the same gradient, and would stay the same for
# ever. Ten iterations from equal and from random activations:

# %%
brief = replace(fit, iterations=10)
equal = H_start.unflatten(0, (N, C))[:, :1].expand(-1, C, -1).flatten(0, 1)
for name, start in (("equal", equal), ("random", H_start)):
    codes = decompose(first, SharedDictionary(flow, C), brief, H=start).codes
    apart = (codes - codes[:, :1]).norm(dim=2).max() / codes.norm(dim=2).max()
    print(f"{name} activations: codes of a note are apart by {apart:.3f} of their length")
    assert (apart < 0.01) == (name == "equal" or C == 1)

# %% [markdown]
# ## The search
#
# Whenever the cost has stayed above its lowest value for more than ten iterations, the step size is halved.

# %%
result = study.result
reports.search(study)
assert result.distance.min() < 0.7 * result.distance[0]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The cost by iteration, and the distance within it. Where a code gets to a steep place of its flow the cost leaps up, and soon comes down again.", "name": "fig-dds2-cost"}, "image": {"alt": "Two coinciding curves on logarithmic axes that fall by a factor of two to three, with many narrow spikes that rise up to three hundredfold."}}
figures.cost(study)

# %% [markdown]
# ## The dictionary before and after

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The C entries of every note, scaled to norm 1. Left: at the start, where those of a note are equal. Right: at the end.", "name": "fig-dds2-dictionary"}, "image": {"alt": "Two images of spectra sorted by pitch. Left, clean partials in steps, one step a note. Right, the same partials with differences between the entries of a step, some of them broad or noisy."}}
after = study.entries_after()
figures.dictionaries(study, before, after)

# %% [markdown]
# How different have the entries of a note become? We take the *cosine* between two of them: 1 for the same shape, 0
# for spectra without a common partial.

# %%
cosines = reports.cosines(study, after)
assert C == 1 or cosines.min() < 0.99

# %% [markdown]
# A cosine near 1 says that the entries have stayed almost the same. Do they at least divide the work? Here is a note that
# sounds, with its entries, a frame in which it sounds, and its rows of $\mathbf{H}$ over the whole mixture. Activations
# are multiplied by the norms of the entries, as in $\mathbf{A}$.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The most active note. Above: its mode, its entries and a frame of the held-out piano, each scaled to a maximum of 1; dotted lines mark its partials. Below: how active each entry is. The grey background marks where the note sounds.", "name": "fig-dds2-note"}, "image": {"alt": "Above, spectra of one note over frequency: the mode, several thin curves of the entries that were found and a frame, all with peaks at the dotted lines. Below, the activity of each entry over time as lines, high where the background is grey."}}
figures.most_active_note(study, before, after)

# %% [markdown]
# Entries whose curves lie on each other do little more than one of them would.
#
# ## What the codes did
#
# Decoding is cheap now, so the search could afford more iterations than in DDS-1. In the `laptop` profile it makes as
# many, with smaller steps. Again we compare with the latents of validation frames.

# %%
lengths, nats = study.beside_frames(result.codes)
reports.codes(study, lengths, nats)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "By note, a dot for each entry. Left: distance of its code from the mode. Right: its log-likelihood. Black bars: the median validation frame of each note. Dashed: √D.", "name": "fig-dds2-codes"}, "image": {"alt": "Two scatter plots over pitch. Left, the lengths of the codes, below the dashed line of the square root of D, beside the black bars of real frames. Right, the log-likelihoods of the entries, beside the black bars of real frames."}}
figures.codes(study, lengths, nats)

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
A, H = result.A, result.H.unflatten(0, (N, C))
summed = (after.norm(dim=1)[:, :, None] * H).sum(dim=1)
assert torch.allclose(summed, A, rtol=1e-3, atol=1e-4)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The activations A beside the piano roll.", "name": "fig-dds2-activations"}, "image": {"alt": "Above, an image of activations over time and pitch in which the notes of the chords stand out as bars; below, the piano roll with the same bars."}}
figures.activations(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A against the piano roll. Teal: activity on notes that sound. Red: on notes that do not.", "name": "fig-dds2-attribution"}, "image": {"alt": "A piano roll in colours: the bars of sounding notes are teal to olive, with patches of pale red on other notes and much white between them."}}
figures.attribution(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "The mixture, what DDS-2 makes of it, and the difference: blue is missing, red is too much.", "name": "fig-dds2-fit"}, "image": {"alt": "Three spectrograms: the mixture, its reconstruction, which looks much like it, and their difference, faint blue and red streaks along partials and at onsets."}}
figures.fit(study)

# %% [markdown]
# ## How good is it?

# %%
reports.measured(study)

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Sparsity over ε. The dotted line is what the piano roll itself would score, the upright line the ε of our tables.", "name": "fig-dds2-sparsity"}, "image": {"alt": "A curve of the share of nearly silent cells over epsilon on a logarithmic axis: nearly flat, below a dotted line near one."}}
figures.sparsity(study)

# %% [markdown]
# The curve hardly depends on ε where the silent cells are exactly zero. Such zeros come from the positive part of the
# activations, which {doc}`07_dds3` looks into.

# %%
print(f"cells of A that are exactly zero: {(A == 0).float().mean():.3f}")

# %% [markdown]
# The same chords, by the methods so far:

# %%
rows = reports.methods(study, "nmf", "dds1", "dds2")
for name in ("psa", "relative_error"):
    print(f"{name}, DDS-2 minus DDS-1: {rows[name]['dds2'] - rows[name]['dds1']:+.3f}")

# %% [markdown]
# ## What sharing changes
#
# In DDS-1 an entry answers to one frame. Here it answers to all of them, and its gradient is a sum over time:
#
# $$ \frac{\partial J}{\partial \mathbf{w}_j} = \sum_t H_{jt}\, \frac{\hat{\mathbf{x}}_t - \mathbf{x}_t}{J} $$
#
# (here $J$ stands for the distance alone). An entry that bends towards the partials of another note gains in the
# frames in which that note sounds, and loses in all others in which it is active. What is common to a note's frames
# adds up, and what is peculiar to one frame hardly counts in the sum.
#
# But DDS-2 also has $C$ entries for each note, and other steps. Which of these is it? We try three dictionaries on a dozen
# frames, all with the step size of DDS-1 and the same few iterations. Between the first two the only difference is who
# owns a code. Between the last two it is the number of entries. Each is searched three times, from different activations,
# and the median is shown:

# %%
durations = study.mixture.chord.unique_consecutive(return_counts=True)[1]
chord_frames = torch.arange(T).split(durations.tolist())
some = torch.cat([of_one[evenly(4, len(of_one))] for of_one in chord_frames[:3]])
x, y = X[:, some].to(device), Y[:, some]
brief = replace(study.workspace.settings("dds1"), iterations=40)
contenders = {
    "an entry for each frame": lambda: FrameDictionary(flow, len(some)),
    "one entry for all frames": lambda: SharedDictionary(flow, 1),
    f"{C} entries for all frames": lambda: SharedDictionary(flow, C),
}
medians = {}
for name, make in contenders.items():
    found = []
    for seed in range(3):
        short = decompose(x, make(), brief, generator=draws(seed))
        found.append(reports.quality(x, y, short.X_hat, short.A))
    medians[name] = pd.DataFrame(found).median()
pd.DataFrame(medians).T.round(3)

# %% [markdown]
# In the `laptop` profile, sharing the codes changes the attribution little, and lowers the error. With many entries average
# precision falls by much: right notes are lost. PSA is higher with them, but so few frames cannot tell whether that lasts. So, with
# the steps of DDS-1, neither alone gives what DDS-2 has: a higher PSA at the same average precision. What is left are the steps
# themselves: those of DDS-2 differ, too.
#
# Where is DDS-2 still wrong? The hammer's blow at the onset has energy at all frequencies. We compare the first three
# frames of each chord with all later ones. How much of their activity is wrong, and where is most of the wrong activity?

# %%
age, all_wrong = torch.cat([of_one - of_one[0] for of_one in chord_frames]), A * ~Y
for name, chosen in (("in the first three frames", age < 3), ("later", age >= 3)):
    wrong = all_wrong[:, chosen].sum()
    print(
        f"wrong activity {name}: {wrong / A[:, chosen].sum():.3f} of all there, "
        f"{wrong / all_wrong.sum():.3f} of all that is wrong"
    )

# %% [markdown]
# Sharing cannot tell apart notes that always sound together. Nor does it stop an entry of a silent note from taking up
# whatever is left over.
#
# ## What it costs

# %% tags=["nbval-ignore-output"]
for method in ("dds1", "dds2"):
    print(f"{method}: {reports.pace(rows.loc[method])}")

# %%
print(
    f"{rows.parameters['dds2'] / 1e6:.3g} million numbers in the {N} flows, "
    "as for DDS-1\n"
    f"{N * C * K / 1e6:.3g} million numbers in the codes, whatever the length"
)

# %% [markdown]
# ## What was learnt
#
# * In the `laptop` profile DDS-2, with a few entries for each note and with steps of its own, has a higher PSA than DDS-1, and about the
#   same average precision. It reconstructs the chords somewhat worse. Sharing alone is not what makes the difference.
# * The entries of a note start as copies. Random activations let them part, but in few iterations they hardly do.
# * The cost of decoding no longer depends on the length of the recording.
#
# **Next:** every note still has a flow of its own, which never heard another note. {doc}`06_conditional_flow` trains
# one for all.
