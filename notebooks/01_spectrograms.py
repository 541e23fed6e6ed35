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
profile = "laptop"  # a name in profiles/ or the path of a .yaml file
settings = {}  # single keys of the profile, such as {"nmf.iterations": 100}
work_dir = "../work/laptop"  # where everything computed is kept
maps_root = ""  # real MAPS in place of the rendered corpus
device = "auto"  # CUDA where there is one, else the CPU

# %%
from contextlib import suppress

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.optimize import nnls

from ddslib import maps, metrics, plots, spectrogram
from ddslib.config import InputError, load_profile
from ddslib.experiment import Workspace

plots.use_style()
profile = load_profile(profile, settings)
workspace = Workspace(profile, work_dir, maps_root, device)
front_end, pitches = profile.front_end, profile.pitches

# %% [markdown]
# ## The recordings
#
# The corpus has two parts that matter here. **ISOL** holds isolated notes: they are what a method may learn
# from. **RAND** holds random chords: they are what it is tested on. The pianos that are
# tested are not among those that train, so nothing can be learnt by heart. {doc}`../book/data` tells where the recordings come from.

# %%
experiment = workspace.experiment("nmf")
notes = workspace.notes()
there = {n.instrument for n in notes}
training = [code for code in workspace.instruments.training() if code in there]
chords = workspace.recordings(experiment)
print(f"{len(notes)} isolated notes of {len(training)} pianos: {', '.join(training)}")
print(f"{len(chords)} chords of a piano not heard in training: {experiment.instrument}")

# %% [markdown]
# Listen first. Three times the same key, struck with different force, on one of the training pianos.


# %%
def find_note(instrument: str, pitch: int, loudness: str) -> maps.Recording:
    wanted = (instrument, pitch, loudness)
    return next(n for n in notes if (n.instrument, n.pitch, n.loudness) == wanted)


def read(recording: maps.Recording) -> np.ndarray:
    return maps.read_audio(recording.path, front_end.sample_rate)


C4 = 60
sounds = {}
for word, mark in {"soft": "P", "medium": "M", "loud": "F"}.items():
    sounds[f"C4, {word}"] = read(find_note(training[0], C4, mark))
plots.players(sounds, front_end.sample_rate)

# %% [markdown]
# Now the same key, loud, on every training piano.

# %%
sounds = {f"C4, loud, {code}": read(find_note(code, C4, "F")) for code in training}
plots.players(sounds, front_end.sample_rate)

# %% [markdown]
# And a chord of the piano that is held out for testing, as it sounds close to the strings and from across the room.

# %%
sounds = {}
for code in workspace.instruments.test:
    with suppress(InputError):  # a tree of yours need not hold all test pianos
        chord = workspace.recordings(workspace.experiment("nmf", instrument=code))[0]
        sounds[f"{chord.polyphony} notes at once, {code}"] = read(chord)
plots.players(sounds, front_end.sample_rate)

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
note = find_note(training[0], C4, "F")
audio = torch.from_numpy(read(note))
S = spectrogram.magnitude(audio, front_end)
f_s, n_fft, h = front_end.sample_rate, front_end.n_fft, front_end.hop
print(f"{f_s} samples a second, windows of {n_fft}, hops of {h}")
print(f"{len(audio)} samples -> {S.shape[0]} bins × {S.shape[1]} frames")

# %% [markdown]
# Is that so? A tone of amplitude 0.5 in the middle of row 40 should show a peak of 0.5 there. (A tone between two
# bins shows up to 15 % less: that is the price of a Hann window.)

# %%
tone_row = 40
seconds = torch.arange(front_end.sample_rate) / front_end.sample_rate
hertz = spectrogram.frequencies(front_end)[tone_row]
tone = 0.5 * torch.sin(2 * torch.pi * hertz * seconds)
column = spectrogram.magnitude(tone, front_end)[:, 15]
print(
    f"the peak of a tone of {hertz:.1f} Hz is {column.max():.3f}, in row {int(column.argmax())}"
)
assert column.argmax() == tone_row
assert abs(column.max() - 0.5) < 1e-3

# %% [markdown]
# **Making quiet things visible.** A note is made of *partials*: frequencies near the whole multiples of its lowest one,
# the *fundamental*. The upper partials of a piano are up to a hundred times weaker than the lowest, but they tell the
# notes apart. So the magnitudes are compressed:
#
# $$ X_{kt} = \frac{\log(1 + \gamma S_{kt})}{\log(1 + \gamma)} $$
#
# The number $\gamma$ is large, so that quiet things count. An amplitude of 1 becomes 1, and silence stays 0. Nothing is
# lost: the formula can be undone.

# %%
print(f"γ = {front_end.gamma:g}")
X = spectrogram.compress(S, front_end.gamma)
assert torch.allclose(spectrogram.expand(X, front_end.gamma), S, atol=1e-5)
for name, values in (("S", S), ("X", X)):
    share = (values > values.max() / 10).float().mean()
    print(f"share of cells above a tenth of the maximum of {name}: {share:.3f}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One note: its waveform, and its log-magnitude spectrogram X, from which every method works.", "name": "fig-note"}, "image": {"alt": "Left, a decaying waveform over a few seconds. Right, the spectrogram of the same seconds, in which a ladder of partials starts at the onset and fades, the upper ones first."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
plots.waveform(axes[0], audio, front_end.sample_rate)
plots.spectrogram(axes[1], X, front_end, vmin=0)
plt.show()

# %% [markdown]
# What has the compression done? Without it, only the strongest partials stand out. The curve shows what happens to
# single values: from an amplitude of about $10^{-3}$ upwards, a factor of ten is an equal step. Below, the curve
# bends to zero, so that noise is not blown up.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Left: the same note before compression, S. Right: the compression. Between amplitudes of 0.001 and 1 it is all but logarithmic.", "name": "fig-compression"}, "image": {"alt": "Left, a spectrogram in which one or two partials are bright and the others all but invisible. Right, a curve of compressed magnitude over amplitude on a logarithmic axis, flat near zero at first and then rising in a straight line to one."}}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
plots.spectrogram(axes[0], S, front_end, label="S (amplitude)")
amplitudes = torch.logspace(-6, 0, 200)
axes[1].semilogx(amplitudes, spectrogram.compress(amplitudes, front_end.gamma))
axes[1].set(xlabel="amplitude S", ylabel="compressed X")
plt.show()

# %% [markdown]
# ## The labels
#
# A MIDI file beside each recording says when every key went down and up. Frame $t$ is centred on sample $t h$, so
# on second $t h / f_s$. A note is active in the frames whose centre lies between its onset and its offset,
# the onset included:
#
# $$ Y_{nt} = 1 \iff \mathrm{onset}_n \le \frac{t\,h}{f_s} < \mathrm{offset}_n $$

# %%
chord = chords[0]
X_chord, Y_chord = spectrogram.labelled_spectrogram(chord, front_end, pitches)
for n in maps.read_notes(chord, front_end.label_rule):
    print(f"pitch {n.pitch}: {n.onset:.2f} s to {n.offset:.2f} s, velocity {n.velocity}")

# %% tags=["hide-input"] mystnb={"figure": {"caption": "A chord of the held-out piano. Dashed lines mark the fundamentals of the labelled notes; the partials stand above them. The right panel is the piano roll, Y.", "name": "fig-roll"}, "image": {"alt": "Left, a spectrogram of a chord with dashed horizontal lines on the fundamentals of its notes while they sound. Right, a piano roll with one black bar for each note over the same time."}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=(3, 2))
plots.spectrogram(axes[0], X_chord, front_end, vmin=0)
plots.sounding_notes(axes[0], Y_chord, front_end, pitches)
plots.piano_roll(axes[1], Y_chord, front_end, pitches)
plt.show()

# %% [markdown]
# Two things about labels are easily got wrong.
#
# **The rate is not an integer.** There are $f_s / h$ frames a second. Whoever rounds that down finds the labels ahead of
# the sound, by more and more.

# %%
rate = front_end.sample_rate / front_end.hop
minutes = 10
drift = minutes * 60 * (rate - int(rate)) / rate
print(f"{rate} frames a second")
print(f"labels at {int(rate)} frames a second: {drift:.1f} s off after {minutes} minutes")

# %% [markdown]
# **The pedal.** With the sustain pedal down, a note goes on after its key is released. The `key` rule ends the note
# with the key; the `pedal` rule waits for the pedal. The book uses the first, and the second is one switch away.

# %%
pedalled = next(n for n in notes if n.sustain)
for rule in ("key", "pedal"):
    (only,) = maps.read_notes(pedalled, rule)
    print(f"{pedalled.name}, rule {rule}: {only.onset:.2f} s to {only.offset:.2f} s")

# %% [markdown]
# ## Do spectra add up?
#
# All methods of this book explain $\mathbf{X}$ as a *sum* of spectra, $\mathbf{X} \approx \mathbf{W} \mathbf{H}$.
# Sound waves do add up. Their magnitudes do not quite, since waves may cancel. The *logarithms* of magnitudes certainly
# do not: two equal tones in phase give one that is 6 dB louder, not one of twice the log magnitude.
#
# How bad is it? Take two recorded notes $a$ and $b$, add their waveforms, and compare the spectrogram of the sum
# with the sum of the spectrograms, over the frames in which both sound:
#
# $$ e = \frac{\lVert \phi(a + b) - (\phi(a) + \phi(b)) \rVert_F}{\lVert \phi(a + b) \rVert_F} $$
#
# We do so for the plain magnitude $S$ and the compressed $X$ in the place of $\phi$. A decomposition is kinder than
# plain addition: it is free to *scale* each spectrum in each frame. So we also find, for every frame, the best
# non-negative factors $h_a$ and $h_b$.

# %% tags=["hide-input"]
draws = np.random.default_rng(0)
held = ("NO", "LG")  # the styles whose keys stay down for long
loud = [n for n in notes if n.loudness == "F" and n.style in held and not n.sustain]


def while_held(recording: maps.Recording, seconds: float = 1.5) -> torch.Tensor:
    """The waveform from the onset on, for a while in which the key is down."""
    start = round(maps.read_notes(recording)[0].onset * front_end.sample_rate)
    stop = start + round(seconds * front_end.sample_rate)
    return torch.from_numpy(read(recording)[start:stop])


def two_notes() -> tuple[torch.Tensor, torch.Tensor]:
    """The waveforms of two different notes of one piano."""
    first = loud[draws.integers(len(loud))]
    others = [
        n for n in loud if n.instrument == first.instrument and n.pitch != first.pitch
    ]
    return while_held(first), while_held(others[draws.integers(len(others))])


# %%
def best_scaled(mixture: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
    """Every frame of (K, T) as the best combination of that frame of parts (2, K, T)."""
    fitted = torch.zeros_like(mixture)
    for t in range(mixture.shape[1]):
        W = parts[:, :, t].T
        h, _ = nnls(W.double().numpy(), mixture[:, t].double().numpy())
        fitted[:, t] = W @ torch.from_numpy(h).to(W.dtype)
    return fitted


errors = []
for _ in range(40):
    a, b = two_notes()
    row = {}
    for name, phi in (("S", spectrogram.magnitude), ("X", spectrogram.spectrogram)):
        mixture = phi(a + b, front_end)
        parts = torch.stack([phi(a, front_end), phi(b, front_end)])
        row[f"{name}, added"] = metrics.relative_error(mixture, parts.sum(0))
        row[f"{name}, scaled"] = metrics.relative_error(
            mixture, best_scaled(mixture, parts)
        )
    errors.append(row)
errors = pd.DataFrame(errors)
print("median relative error")
print(errors.median().map("{:.3f}".format).to_string())

# %% tags=["hide-input"] mystnb={"figure": {"caption": "How far the spectra of two notes are from adding up, for 40 pairs of recorded notes. A dot is a pair, a bar the median.", "name": "fig-additivity"}, "image": {"alt": "Four columns of dots of relative error between zero and one: magnitudes added, magnitudes scaled, log magnitudes added and log magnitudes scaled. Added log magnitudes have by far the largest errors; scaling lowers them."}}
figure, ax = plt.subplots(figsize=(7, 3))
for place, name in enumerate(errors):
    ax.plot(
        place + draws.uniform(-0.15, 0.15, len(errors)),
        errors[name],
        "o",
        markersize=3,
        alpha=0.6,
    )
    ax.hlines(
        errors[name].median(), place - 0.3, place + 0.3, color=plots.INK, linewidth=2
    )
ax.set_xticks(range(errors.shape[1]), errors.columns)
ax.set(ylabel="relative error", ylim=(0, None))
plt.show()

# %% [markdown]
# The assumption is rough. Plain addition in log magnitude is far off, because wherever both spectra have
# something, the sum counts it twice. Scaling repairs part of this. What remains is an error that is there even with the
# two true spectra, each scaled freely in every frame.

# %%
assert errors["X, added"].median() > errors["S, added"].median()
assert errors["X, scaled"].median() < errors["X, added"].median()

# %% [markdown]
# One pair, seen bin by bin, shows where the error sits: where both recordings have energy at the same frequency. These are the
# partials that the notes share, and the low sounds below both fundamentals that come with every blow of a hammer.

# %% tags=["hide-input"] mystnb={"figure": {"caption": "One frame of two notes. The sum of the two compressed spectra overshoots the spectrum of the mixture most where both have energy: at the lowest frequencies, and at shared partials.", "name": "fig-pair"}, "image": {"alt": "Two curves over frequency: the compressed spectrum of a mixture of two notes, and the sum of the two notes' own compressed spectra, which nearly coincides with it but at the lowest frequencies and for a few shared peaks, where the sum is higher."}}
frame = 20
mixture = spectrogram.spectrogram(a + b, front_end)[:, frame]
added = (
    spectrogram.spectrogram(a, front_end)[:, frame]
    + spectrogram.spectrogram(b, front_end)[:, frame]
)
figure, ax = plt.subplots(figsize=(9, 3))
kilohertz = spectrogram.frequencies(front_end) / 1000
ax.plot(kilohertz, added, label="X(a) + X(b)", color=plots.WRONG, linewidth=1)
ax.plot(kilohertz, mixture, label="X(a + b)", color=plots.RIGHT, linewidth=1)
ax.set(xlabel="frequency (kHz)", ylabel="compressed magnitude")
ax.margins(x=0)
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## What was learnt
#
# * $\mathbf{X}$ has one row for each frequency bin and one column for each hop; its values lie between 0 and about 1.
# * $\mathbf{Y}$ comes from MIDI by the exact frame rate.
# * Log magnitudes of two notes do not add up. Every method of this book assumes that they do.
#
# **Next:** {doc}`02_nmf` takes the assumption at its word and explains chords by stored spectra of single notes.
