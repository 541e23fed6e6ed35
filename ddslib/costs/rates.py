"""How fast work was when it was measured."""

import re

TRAININGS = {"note_flows": "RealNVP", "conditional_flow": "Glow"}  # whose training a step is called


def rates(measured: dict, size: str) -> dict[str, float]:
    """Operations a second of what `make bench` has measured at a size, by whose iteration or training step it was.

    `measured` is the content of its JSON file; each of its ``rows`` has a name, a size, operations and milliseconds.
    """
    rows = [row for row in measured["rows"] if row["size"] == size]
    return {re.split(" (?:iteration|training)", row["name"])[0]: 1000 * row["operations"] / row["ms"] for row in rows}
