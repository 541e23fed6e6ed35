"""What a reader hears: audio players in the page."""

import base64
import html
import io
from dataclasses import dataclass, field

import soundfile

from ..measures.checks import as_array


@dataclass(frozen=True)
class Page:
    """What a notebook shows as HTML."""

    data: str = field(repr=False)

    def _repr_html_(self):
        return self.data


def players(sounds, sample_rate):
    """A row of audio players for sounds {caption: (samples,)}, as MP3 in the page.

    Sounds keep their own loudness, so those of one row can be compared.
    """
    return Page(f'<div class="players">{"".join(_player(*item, sample_rate) for item in sounds.items())}</div>')


def _player(caption, audio, sample_rate):
    buffer = io.BytesIO()
    soundfile.write(buffer, as_array(audio), sample_rate, format="MP3")
    source = f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    label = html.escape(caption)
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f'<audio controls preload="metadata" aria-label="{label}" src="{source}"></audio></figure>'
    )
