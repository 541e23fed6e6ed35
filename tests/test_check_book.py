import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow"))
import check_book

FIGURE = '<img alt="a spectrogram of a single note" src="../_images/a.png" />'
TOC = "format: jb-book\nroot: book/intro\nparts:\n  - caption: x\n    chapters:\n      - file: chapters/01_a\n"


@pytest.fixture
def book(tmp_path):
    html = tmp_path / "_build" / "html"
    for folder in ("chapters", "book", "_images"):
        (html / folder).mkdir(parents=True)
    (tmp_path / "chapters").mkdir()
    (tmp_path / "_toc.yml").write_text(TOC)
    outputs = [{"data": {"image/png": "…"}}, {"data": {"text/html": ["<audio>"]}}]
    (tmp_path / "chapters" / "01_a.ipynb").write_text(json.dumps({"cells": [{"outputs": outputs}]}))
    (html / "_images" / "a.png").touch()
    (html / "book" / "intro.html").write_text("hello")
    (html / "chapters" / "01_a.html").write_text(FIGURE + "<audio src=''>")
    return tmp_path


def test_a_whole_book_passes(book):
    assert list(check_book.problems(book)) == []


@pytest.mark.parametrize(
    ("page", "content", "problem"),
    [
        ("book/intro.html", None, "book/intro: no page"),
        ("_images/a.png", None, "image ../_images/a.png is missing"),
        ("chapters/01_a.html", "<audio>", "shows fewer figures than the 1"),
        ("chapters/01_a.html", FIGURE, "shows 0 of 1 audio players"),
        ("chapters/01_a.html", "<audio>" + FIGURE.replace("spectrogram of a single note", ""), "no alternative text"),
    ],
)
def test_what_is_missing_is_named(book, page, content, problem, monkeypatch):
    path = book / "_build" / "html" / page
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["check_book.py", str(book)])
    assert problem in check_book.main()
