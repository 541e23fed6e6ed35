"""Spectra: waveform to X and back, notes to Y, stored frames of isolated notes, mixtures.

In: recordings, and the profile's front end and pitches.
Out: X (K, T) and Y (N, T), a `Mixture` of chords to decompose, `Frames` to store in a dictionary or to learn from.
"""
