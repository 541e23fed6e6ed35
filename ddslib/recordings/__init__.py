"""Recordings: the names of MAPS, audio and notes from files, pianos, and the corpus that is rendered in MAPS's layout.

In: a folder of recordings, or what a profile asks to be rendered.
Out: recordings found by what their names say, with their audio, their notes and, of a rendered chord, its sources.
"""
