"""The machine: what a device is good at, how products are rounded, recorded work, processes, limits and peak memory.

In: torch's devices, a profile's `precision`, and work as functions without arguments.
Out: a `Policy`, a `Rounding`, results, seconds and bytes.
"""
