"""Normalizing flows: their layers and densities, their training, their files, and what they cost.

In: frames of isolated notes, and the recipe of a profile.
Out: flows that give every spectrum a density, and decode latent codes to spectra.
"""
