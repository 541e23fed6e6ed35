"""The pianos of the rendered corpus: SoundFont presets, the rooms they stand in, and where the fonts lie.

Which of them train, in which families, and who is left out for whom: `ddslib.config.Instruments`, which
`ddslib.runs.searches` asks for every dictionary.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from ..config import InputError
from . import salamander

FONTS = {  # file name: the Debian package that holds it
    "FluidR3_GM.sf2": "fluid-soundfont-gm",
    "FluidR3Mono_GM.sf3": "fluidr3mono-gm-soundfont",
    "sf_GMbank.sf2": "csound-soundfont",
    "MuseScore_General_Full.sf3": "musescore-general-soundfont",
}
SALAMANDER = "Salamander"  # in the place of a SoundFont's name, see `ddslib.recordings.salamander`
FONT_SETTING = "DDSLIB_SOUNDFONTS"  # environment variable: folders searched before the usual ones
FONT_FOLDERS = ("/usr/share/sounds/sf2", "/usr/share/sounds/sf3", "/usr/share/soundfonts", str(salamander.FOLDER))


@dataclass(frozen=True)
class Room:
    """A shoebox room with two microphones 30 cm apart."""

    size: tuple[float, float, float]  # m
    reverberation: float  # s until the sound has decayed by 60 dB
    distance: float  # m from the source to the microphones


@dataclass(frozen=True)
class Piano:
    """A SoundFont preset, how it is played and where it is recorded."""

    font: str  # a SoundFont, or SALAMANDER
    room: Room
    bank: int = 0
    program: int = 0
    brightness: int | None = None  # Hz: cut-off at velocity 64, where the samples lack soft timbres
    detune: float = 0.0  # cents: spread of a fixed mistuning of each key
    jitter: tuple[float, float] = (0.0, 0.0)  # s: how late the sound is after its MIDI onset
    noise: float | None = None  # dBFS of the pink noise floor

    @property
    def preset(self) -> str:
        """What is played, whatever the room: two recordings of one preset share their performances."""
        return f"{self.font}/{self.bank}/{self.program}"


PIANOS = TypeAdapter(dict[str, Piano]).validate_python(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text()))


def find_font(name: str) -> Path:
    """Where a SoundFont lies.  Raises `InputError` naming its Debian package and the setting."""
    folders = [*filter(None, os.environ.get(FONT_SETTING, "").split(os.pathsep)), *FONT_FOLDERS]
    for folder in map(Path, folders):
        if (folder / name).is_file():
            return folder / name
    remedy = f"install the Debian package {FONTS[name]}" if name in FONTS else "run `ddslib fetch`"
    raise InputError(
        f"SoundFont {name} not found in {', '.join(folders)}; {remedy} "
        f"or name the folder that holds it in {FONT_SETTING}"
    )


def files(code: str) -> list[str]:
    """The names of the files that a piano is played from."""
    font = PIANOS[code].font
    return [salamander.archive(number) for number, _ in salamander.LAYERS.values()] if font == SALAMANDER else [font]


def can_be_had(code: str) -> bool:
    """Whether a piano can be rendered here, or has to be: the book may be made without the Salamander alone."""
    try:
        return PIANOS[code].font != SALAMANDER or all(map(find_font, files(code)))
    except InputError:
        return False
