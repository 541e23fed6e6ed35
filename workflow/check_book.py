"""Check a built book: every page of its table of contents is there and holds its figures and players.

Usage: python workflow/check_book.py FOLDER, where FOLDER holds _toc.yml, the sources and _build/html.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from sphinx_external_toc.parsing import parse_toc_yaml


def count_outputs(notebook: Path) -> tuple[int, int]:
    """How many figures and audio players an executed notebook shows."""
    cells = json.loads(notebook.read_text())["cells"]
    shown = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    figures = sum("image/png" in data for data in shown)
    players = sum("".join(data.get("text/html", "")).count("<audio") for data in shown)
    return figures, players


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with the book in `folder`, one line each."""
    html = folder / "_build" / "html"
    for page in parse_toc_yaml(folder / "_toc.yml"):
        built = html / f"{page}.html"
        if not built.is_file():
            yield f"{page}: no page {built}"
            continue
        text = built.read_text()
        images = re.findall(r'<img [^>]*src="([^"]+)"', text)
        for image in images:
            if not image.startswith(("http", "data:")) and not (built.parent / image).is_file():
                yield f"{page}: its image {image} is missing"
        for image in re.findall(r'<img (?![^>]*alt="[^"]{20,}")[^>]*_images/[^>]*>', text):
            yield f"{page}: a figure has no alternative text: {image[:120]}"
        if (notebook := folder / f"{page}.ipynb").is_file():
            figures, players = count_outputs(notebook)
            if figures == 0:
                yield f"{page}: the executed chapter has no figures"
            if sum("_images/" in image for image in images) < figures:
                yield f"{page}: shows fewer figures than the {figures} of the executed chapter"
            if text.count("<audio") != players:
                yield f"{page}: shows {text.count('<audio')} of {players} audio players"


def main() -> str | None:
    """What is wrong, for `sys.exit` to fail with."""
    return "\n".join(f"check_book: {problem}" for problem in problems(Path(sys.argv[1]))) or None


if __name__ == "__main__":
    sys.exit(main())
