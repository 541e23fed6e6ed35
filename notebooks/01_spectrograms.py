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
# # From recordings to spectrograms
#
# **The question.** What does a decomposition see of a piano, and what counts as the right answer?
#
# A recording becomes a matrix $\mathbf{X}$, its *log-magnitude spectrogram*. The notes that were played become
# a matrix $\mathbf{Y}$, the *piano roll*. Every later chapter starts from this pair.
#
# **You need:** nothing from earlier chapters. **You will see:** how a sound turns into $\mathbf{X}$, what the
# compression does to it, where the labels come from, and how wrong the central assumption of this book is:
# that the spectra of two notes simply add up.

# %% tags=["parameters"]
profile = "laptop"  # the name of a profile or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"front_end.gamma": 1000}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %% tags=["hide-input"]
from contextlib import suppress

from ddslib import measures
from ddslib.config import InputError
from ddslib.pages import plots
from ddslib.pages.chapter import open_chapter
from ddslib.pages.players import players
from ddslib.recordings.audio import read_audio
from ddslib.recordings.notes import read_notes
from ddslib.spectra.labels import labelled_spectrogram
from ddslib.spectra.spectrogram import (
    compress,
    expand,
    frequencies,
    magnitude,
    spectrogram,
)

import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

workspace = open_chapter(globals())
front_end, pitches = workspace.profile.front_end, workspace.profile.pitches

# %% [markdown]
# ## The recordings
#
# The corpus has two parts that matter here. **ISOL** holds isolated notes: they are what a method may learn
# from. **RAND** holds random chords: they are what it is tested on. The pianos that are
# tested are not among those that train, so nothing can be learnt by heart. {doc}`../book/data` says where the recordings come from.

# %%
notes = workspace.notes()
there = {note.instrument for note in notes}
training = [code for code in workspace.instruments.training() if code in there]
chords = workspace.recordings(workspace.chords())
print(f"{len(notes)} isolated notes of {len(training)} pianos: {', '.join(training)}")
print(f"{len(chords)} chords of a piano not heard in training: {chords[0].instrument}")

# %% [markdown]
# Listen first: the same key of one training piano, struck three times, harder each time.

# %% tags=["hide-input"]
f_s = front_end.sample_rate


def sound(recording):
    """The waveform (samples,) at f_s samples a second."""
    return torch.from_numpy(read_audio(recording.path, f_s))


def c4(*wanted):
    """The waveform of the middle C of that instrument and loudness."""
    found = (n for n in notes if (n.instrument, n.loudness) == wanted and n.pitch == 60)
    return sound(next(found))


# %%
loudness = {"soft": "P", "medium": "M", "loud": "F"}
players({f"C4, {word}": c4(training[0], mark) for word, mark in loudness.items()}, f_s)

# %% [markdown]
# Now the same key, loud, on every training piano.

# %%
players({f"C4, loud, {code}": c4(code, "F") for code in training}, f_s)

# %% [markdown]
# And a chord of the piano that is held out for testing, as it sounds close to the strings and from across the room.

# %%
sounds = {}
for code in workspace.instruments.test:
    with suppress(InputError):  # a tree of yours need not hold all test pianos
        chord = workspace.recordings(workspace.chords(instrument=code))[0]
        sounds[f"{chord.polyphony} notes at once, {code}"] = sound(chord)
players(sounds, f_s)

# %% [markdown]
# ## From sound to spectrogram
#
# **Where the energy is.** The recording is mixed to one channel and resampled to $f_s$ samples a second. A window of
# $n_\mathrm{fft}$ samples slides over it in hops of $h$. Each window is a column. Its Fourier transform says how strong
# every frequency is in it. Divided by half of the window's sum, the magnitude of a steady tone is its amplitude:
#
# $$ S_{kt} = \frac{2}{\sum_n w_n} \left| \sum_n w_n\, x_{n + t h - n_\mathrm{fft}/2}\, e^{-2 \pi i k n / n_\mathrm{fft}} \right| $$
#
# Here $w$ is a Hann window, $t$ the frame and $k$ the frequency bin. The ends of the recording are padded with silence.
# The constant bin $k = 0$ is dropped, so row $i$ of the array is $k = i + 1$. In code:

# %%
audio = c4(training[0], "F")
S = magnitude(audio, front_end)
h = front_end.hop
print(f"{f_s} samples a second, windows of {front_end.n_fft}, hops of {h}")
print(f"{len(audio)} samples -> {S.shape[0]} bins × {S.shape[1]} frames")

# %% [markdown]
# We check this. A tone of amplitude 0.5 in the middle of row 40 should show a peak of 0.5 there. (A tone between two
# bins shows up to 15 % less: that is the price of a Hann window.)

# %%
tone_row = 40
hertz = frequencies(front_end)[tone_row]
seconds = torch.arange(f_s) / f_s
tone = 0.5 * torch.sin(2 * torch.pi * hertz * seconds)
peak, row = magnitude(tone, front_end)[:, 15].max(dim=0)
print(f"the peak of a tone of {hertz:.1f} Hz is {peak:.3f}, in row {row}")
assert row == tone_row
assert abs(peak - 0.5) < 1e-3

# %% [markdown]
# **Making quiet things visible.** A note is made of *partials*: frequencies near the whole multiples of its lowest one,
# the *fundamental*. The upper partials of a piano are up to a hundred times weaker than the lowest, but they tell the
# notes apart. So the magnitudes are compressed:
#
# $$ X_{kt} = \frac{\log(1 + \gamma S_{kt})}{\log(1 + \gamma)} $$
#
# The number $\gamma$ is large, so that quiet things count. An amplitude of 1 becomes 1, and silence stays 0. Nothing is
# lost: the formula can be inverted.

# %%
print(f"γ = {front_end.gamma:g}")
X = compress(S, front_end.gamma)
assert torch.allclose(expand(X, front_end.gamma), S, atol=1e-5)
for name, values in (("S", S), ("X", X)):
    share = (values > values.max() / 10).float().mean()
    print(f"share of cells above a tenth of the maximum of {name}: {share:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One note: its waveform, and its log-magnitude spectrogram X, from which the methods of the paper work.", "name": "fig-note"}, "image": {"alt": "Left, a decaying waveform over a few seconds. Right, the spectrogram of the same seconds, in which a ladder of partials starts at the onset and fades, the upper ones first."}}
with plots.shown(9, 3.2, 1, 2) as (left, right):
    plots.waveform(left, audio, f_s)
    plots.spectrogram(right, X, front_end, vmin=0)

# %% [markdown]
# What has the compression done? Without it, only the strongest partials stand out. The curve shows what happens to
# single values: from an amplitude of about $10^{-3}$ upwards, a factor of ten is an equal step. Below, the curve
# bends to zero, so that noise is not blown up.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Left: the same note before compression, S. Right: the compression. Between amplitudes of 0.001 and 1 it is all but logarithmic.", "name": "fig-compression"}, "image": {"alt": "Left, a spectrogram in which one or two partials are bright and the others all but invisible. Right, a curve of compressed magnitude over amplitude on a logarithmic axis, flat near zero at first and then rising in a straight line to one."}}
with plots.shown(9, 3.2, 1, 2) as (left, right):
    plots.spectrogram(left, S, front_end, "S (amplitude)")
    amplitudes = torch.logspace(-6, 0, 200)
    right.semilogx(amplitudes, compress(amplitudes, front_end.gamma))
    right.set(xlabel="amplitude S", ylabel="compressed X")

# %% [markdown]
# ## The labels
#
# A MIDI file beside each recording says when every key went down and up. Frame $t$ is centred on sample $t h$, at
# $t h / f_s$ seconds. A note is active in the frames whose centre lies between its onset and its offset,
# the onset included:
#
# $$ Y_{nt} = 1 \iff \mathrm{onset}_n \le \frac{t\,h}{f_s} < \mathrm{offset}_n $$

# %%
chord = chords[0]
X_chord, Y_chord = labelled_spectrogram(chord, front_end, pitches)
for n in read_notes(chord, front_end.label_rule):
    print(f"pitch {n.pitch}: {n.onset:.2f} s to {n.offset:.2f} s, velocity {n.velocity}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A chord of the held-out piano. Dashed lines mark the fundamentals of the labelled notes; the partials stand above them. The right panel is the piano roll, Y.", "name": "fig-roll"}, "image": {"alt": "Left, a spectrogram of a chord with dashed horizontal lines on the fundamentals of its notes while they sound. Right, a piano roll with one black bar for each note over the same time."}}
with plots.shown(10, 3.2, 1, 2, width_ratios=(3, 2)) as (left, right):
    plots.spectrogram(left, X_chord, front_end, vmin=0)
    plots.sounding_notes(left, Y_chord, front_end, pitches)
    plots.piano_roll(right, Y_chord, front_end, pitches)

# %% [markdown]
# Two things about labels are easily got wrong.
#
# **The frame rate is not an integer.** There are $f_s / h$ frames a second. Round that down, and the labels run ahead of
# the sound, more and more.

# %%
rate = f_s / h
minutes = 10
drift = minutes * 60 * (rate - int(rate)) / rate
print(f"{rate} frames a second")
print(f"labels at {int(rate)} frames a second: {drift:.1f} s off after {minutes} minutes")

# %% [markdown]
# **The pedal.** With the sustain pedal down, a note goes on after its key is released. The `key` rule ends the note
# with the key; the `pedal` rule waits for the pedal. The book uses the first. One key of the profile switches to the
# second.

# %%
pedalled = next(n for n in notes if n.sustain)
for rule in ("key", "pedal"):
    (only,) = read_notes(pedalled, rule)
    print(f"{pedalled.name}, rule {rule}: {only.onset:.2f} s to {only.offset:.2f} s")

# %% [markdown]
# ## Do spectra add up?
#
# All methods of the paper explain $\mathbf{X}$ as a *sum* of spectra, $\mathbf{X} \approx \mathbf{W} \mathbf{H}$.
# Sound waves do add up. Their magnitudes do not quite, since waves may cancel. The *logarithms* of magnitudes certainly
# do not: two equal tones in phase give one that is 6 dB louder, not one of twice the log magnitude.
#
# How bad is it? Take two recorded notes $a$ and $b$, add their waveforms, and compare the spectrogram of the sum
# with the sum of the spectrograms, over the frames in which both sound:
#
# $$ e = \frac{\lVert \phi(a + b) - (\phi(a) + \phi(b)) \rVert_F}{\lVert \phi(a + b) \rVert_F} $$
#
# Here $\phi$ is either the plain magnitude $S$ or the compressed $X$. A decomposition can do better than plain addition,
# since it may *scale* each spectrum in each frame. So we also find, for every frame, the best non-negative factors
# $h_a$ and $h_b$.

# %% tags=["hide-input"]
draws = np.random.default_rng(0)
long = ("NO", "LG")  # the styles whose keys stay down for long
held = [n for n in notes if n.loudness == "F" and n.style in long and not n.sustain]


def while_held(recording):
    """The waveform of 1.5 seconds from the onset on, in which the key is down."""
    start = round(read_notes(recording)[0].onset * f_s)
    return sound(recording)[start:][: round(1.5 * f_s)]


def two_notes():
    """The waveforms of two different notes of one piano."""
    a = draws.choice(held)
    others = [n for n in held if n.instrument == a.instrument and n.pitch != a.pitch]
    return while_held(a), while_held(draws.choice(others))


# %%
def best_scaled(mixture, parts):
    """Every frame of (K, T) as the best combination of that frame of two parts (K, T)."""
    columns = []
    for x, W in zip(mixture.T, torch.stack(parts).permute(2, 1, 0), strict=True):
        h, _ = nnls(W, x)
        columns.append(W @ W.new_tensor(h))
    return torch.stack(columns, dim=1)


errors = pd.DataFrame(index=range(40))
for pair in errors.index:
    a, b = two_notes()
    for name, phi in {"S": magnitude, "X": spectrogram}.items():
        mixture, *parts = (phi(audio, front_end) for audio in (a + b, a, b))
        sums = {"added": sum(parts), "scaled": best_scaled(mixture, parts)}
        for how, fit in sums.items():
            errors.loc[pair, f"{name}, {how}"] = measures.relative_error(mixture, fit)
medians = errors.median()
print("median relative error")
print(medians.map("{:.3f}".format).to_string())

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the spectra of two notes are from adding up, for 40 pairs of recorded notes. A dot is a pair, a bar the median.", "name": "fig-additivity"}, "image": {"alt": "Four columns of dots of relative error between zero and one: magnitudes added, magnitudes scaled, log magnitudes added and log magnitudes scaled. Added log magnitudes have by far the largest errors; scaling lowers them."}}
with plots.shown(7, 3) as ax:
    places = np.arange(len(medians))
    beside = draws.uniform(-0.15, 0.15, errors.T.shape).T  # so that no dot hides another
    ax.plot(places + beside, errors, "o", markersize=3, alpha=0.6)
    ax.hlines(medians, places - 0.3, places + 0.3, color=plots.INK, linewidth=2)
    ax.set_xticks(places, errors.columns)
    ax.set(ylabel="relative error", ylim=(0, None))

# %% [markdown]
# The assumption is rough. Plain addition in log magnitude is far off, because wherever both spectra have
# energy, the sum counts it twice. Scaling repairs part of this. The rest of the error stays, even with the
# two true spectra, each scaled freely in every frame.

# %%
assert medians["X, added"] > medians["S, added"]
assert medians["X, scaled"] < medians["X, added"]

# %% [markdown]
# One pair, seen bin by bin, shows where the error sits: where both recordings have energy at the same frequency. These are the
# partials that the notes share, and the low sounds below both fundamentals that come with every blow of a hammer.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One frame of two notes. The sum of the two compressed spectra overshoots the spectrum of the mixture most where both have energy: at the lowest frequencies, and at shared partials.", "name": "fig-pair"}, "image": {"alt": "Two curves over frequency: the compressed spectrum of a mixture of two notes, and the sum of the two notes' own compressed spectra, which nearly coincides with it but at the lowest frequencies and for a few shared peaks, where the sum is higher."}}
with plots.shown(9, 3) as ax:  # frame 20 of the last pair
    plots.spectrum(ax, sum(parts)[:, 20], front_end, "X(a) + X(b)", color=plots.WRONG)
    plots.spectrum(ax, mixture[:, 20], front_end, "X(a + b)", color=plots.RIGHT)
    ax.legend()

# %% [markdown]
# ## What was learnt
#
# * $\mathbf{X}$ has one row for each frequency bin and one column for each hop; its values lie between 0 and about 1.
# * $\mathbf{Y}$ comes from MIDI by the exact frame rate.
# * Log magnitudes of two notes do not add up. Every method of the paper assumes that they do.
#
# **Next:** {doc}`02_nmf` takes the assumption at its word and explains chords by stored spectra of single notes.
