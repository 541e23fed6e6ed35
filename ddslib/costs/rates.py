"""How fast work was when it was measured."""

TRAININGS = {"note_flows": "RealNVP", "conditional_flow": "Glow"}  # the first words of what a flow's training is called


def rates(measured: dict, size: str) -> dict[str, float]:
    """Operations a second of what `make bench` has measured at a size, by the first word of what was done.

    `measured` is the content of its JSON file; each of its ``rows`` has a name, a size, operations and milliseconds.
    """
    return {
        row["name"].split()[0]: 1000 * row["operations"] / row["ms"] for row in measured["rows"] if row["size"] == size
    }
