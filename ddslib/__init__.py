"""Differentiable Dictionary Search: the small library behind the book's chapters.

All methods are one search with different dictionaries.  The folders follow the data; each imports only from those above
it.  `config` (what a run can vary, with the profiles) and `artefacts` (files named by what they were made from, written
whole or not at all) are above them all, `cli` (the command line) is below.

==============  =================================================  =======================  ============================
folder          owns                                               in                       out
==============  =================================================  =======================  ============================
``machine``     what a device does its own way; its limits,        a device                 one `Policy` for it; times,
                clocks and processes; the unit of counted work                              bytes
``recordings``  names of MAPS, audio and notes, pianos, the        files, or a wish for     recordings that are found
                rendered corpus                                    rendered ones            by their names; their stems
``spectra``     waveform to X and back, notes to Y                 recordings               mixtures; frames of
                                                                                            isolated notes
``flows``       layers, the two flows, their training, their       frames of isolated       trained flows
                files, what they cost                              notes
``search``      the objective, the dictionary's interface, how     X, a dictionary          activations H and A,
                activations and codes move, the loop                                        codes, cost by iteration
``methods``     one file a method: all that is known of it; the    flows, stored frames     dictionaries; what an
                registry                                                                    iteration costs
``measures``    how good activations are, and how sure that is     A, Y, X and X̂            numbers
``runs``        the workspace: data, flows, searches and rows;     a profile, experiments   rows
                sweeps of many
``costs``       how the measured cost of an iteration grows, and   methods, sizes           seconds, bytes, exponents
                measured rates beside counted work
``pages``       what chapters show: figures, players, tables       rows, arrays             figures
==============  =================================================  =======================  ============================
"""

import os
from importlib.metadata import version

# Threads that spin while they wait take the cores from other processes, and from those that they wait for.  It has
# to be said before torch is loaded, so whoever imports both imports ddslib first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = version("ddslib")
