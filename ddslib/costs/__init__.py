"""What methods cost: measured growth beside counted work, and measured rates.

In: sizes, methods, and a device that is left alone meanwhile.
Out: seconds, bytes and operations, and the exponents of their growth.
"""
