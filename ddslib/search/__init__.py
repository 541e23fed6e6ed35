"""The one search that all methods are, X ≈ W H.

In: a spectrogram, a dictionary, and the settings that choose the objective, the updates and the schedule.
Out: activations, codes, the reconstruction, and how the search went.
"""
