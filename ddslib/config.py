"""Profiles: every number that a run can vary, as frozen dataclasses.

A profile is a YAML file, shipped in ``ddslib/profiles/``, or one of yours that says ``extends: laptop`` and then only
what differs.  A key that is missing, unknown or of the wrong type is an error that names the file and
the key.  Single keys are overridden by their dotted name, as in
``load_profile("laptop", {"evaluation.polyphony": 3})``.

What a method needs to know stands in a section of its name.  It is a mapping here, since only the method can tell
what is right; it is checked when a workspace opens the profile.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

PROFILES = Path(__file__).resolve().parent / "profiles"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built

Pitch = Annotated[int, Field(ge=21, le=108)]
Polyphony = Annotated[int, Field(ge=2, le=7)]
ChordCount = Annotated[int, Field(gt=0, le=50)]  # of a kind, as many as MAPS has
Style = Literal["NO", "LG", "ST", "RE"]  # a trill is no isolated note
Loudness = Literal["P", "M", "F"]
LabelRule = Literal["key", "pedal"]

Kind = TypeVar("Kind")


def _in_range(intensity: str) -> str:
    softest, loudest = map(int, intensity[1:].split("-"))
    if not 1 <= softest <= loudest <= 127:
        raise ValueError("expected velocities from 1 to 127, the softest first")
    return intensity


Intensity = Annotated[str, Field(pattern=r"^I\d+-\d+$"), AfterValidator(_in_range)]
frozen = dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))


class InputError(ValueError):
    """Bad input.  The message names the file or value and says what was expected."""


@frozen
class FrontEnd:
    """From a waveform to X, and from notes to Y (paper §IV-A)."""

    sample_rate: PositiveInt  # Hz, after resampling
    n_fft: Annotated[int, Field(gt=1, multiple_of=2)]  # samples in one window
    hop: PositiveInt  # samples between frames
    bins: PositiveInt  # K: how many of the n_fft / 2 bins are kept, from the lowest up
    gamma: PositiveFloat  # strength of the log compression
    label_rule: LabelRule  # where a note ends: at its key's release or at its damper's fall

    def __post_init__(self):
        if self.bins > self.n_fft // 2:
            raise ValueError(f"bins is {self.bins}, expected at most n_fft / 2 = {self.n_fft // 2}")


@frozen
class Pitches:
    """The N sources: every MIDI pitch from lowest to highest."""

    lowest: Pitch
    highest: Pitch

    def __post_init__(self):
        if self.lowest > self.highest:
            raise ValueError(f"lowest is {self.lowest}, above highest, which is {self.highest}")

    @property
    def numbers(self) -> range:
        return range(self.lowest, self.highest + 1)


@frozen
class Instruments:
    """Who trains and who tests, as instrument codes; training pianos are grouped in families.

    A family shares its samples.  What is chosen on training pianos is chosen on the mixtures of
    `validation`, with that piano's whole family left out of training.
    """

    train: dict[str, tuple[str, ...]]
    validation: str
    test: tuple[str, ...]

    def __post_init__(self):
        if not any(self.validation in members for members in self.train.values()):
            raise ValueError(f"validation is {self.validation!r}, expected one of the training pianos")

    def training(self, without: str | None = None) -> tuple[str, ...]:
        """Codes of the training pianos, in order, leaving out the family of the piano `without`."""
        families = (members for members in self.train.values() if without not in members)
        return tuple(code for members in families for code in members)

    def only(self, allowed: Callable[[str], bool]) -> "Instruments":
        """Without the training pianos that are not allowed."""
        families = {name: tuple(filter(allowed, members)) for name, members in self.train.items()}
        return replace(self, train={name: members for name, members in families.items() if members})


@frozen
class Rendering:
    """How much of the stand-in corpus is rendered; the pitches are the profile's."""

    isol_instruments: tuple[str, ...]
    rand_instruments: tuple[str, ...]
    styles: tuple[Literal["NO", "LG", "ST"], ...]
    loudness: tuple[Loudness, ...]
    polyphonies: tuple[Polyphony, ...]
    intensities: tuple[Intensity, ...]
    chords: ChordCount  # per RAND cell

    def only(self, allowed: Callable[[str], bool]) -> "Rendering":
        """Without the pianos that are not allowed."""
        isolated, random = (tuple(filter(allowed, codes)) for codes in (self.isol_instruments, self.rand_instruments))
        return replace(self, isol_instruments=isolated, rand_instruments=random)


@frozen
class Training:
    """Which frames of isolated notes become training data (paper §IV-A)."""

    styles: tuple[Style, ...]
    thin: PositiveInt  # keep every thin-th active frame of a recording
    validation_share: Annotated[float, Field(gt=0, lt=1)]
    split: Literal["recording", "frame"]


@frozen
class Evaluation:
    """The mixture that is decomposed, unless a chapter says otherwise."""

    polyphony: Polyphony
    intensity: Intensity
    chords: ChordCount
    epsilon: PositiveFloat  # at most this counts as silent in the sparsity
    seeds: PositiveInt  # how many seeds the comparison takes, from the profile's on
    draws: PositiveInt  # of the bootstrap that gives the intervals
    rehearse: bool  # whether F is measured, for which a threshold has to be found on the validation piano


@frozen
class FlowTraining:
    """A flow for each note, and its training (paper §IV-B2)."""

    steps: PositiveInt  # F
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # widths of a coupling's hidden layers
    batch: PositiveInt  # frames; for each note, where every note has a flow of its own
    learning_rate: PositiveFloat
    epochs: PositiveInt
    patience: PositiveInt  # epochs without a better validation loss before training stops
    gradient_clipping: PositiveFloat | None  # largest norm of a flow's gradient
    noise: NonNegativeFloat  # deviation of the noise that is added to training frames
    compiled: bool  # whether torch.compile fuses the flow


@frozen
class ConditionalFlowTraining(FlowTraining):
    """One flow for all notes, and its training beside a classifier (paper §III-D)."""

    semantic_weight: PositiveFloat  # lambda_s
    nuisance_weight: NonNegativeFloat  # lambda_n
    classifier_steps: PositiveInt  # of the nuisance classifier before each step of the flow
    classifier_learning_rate: PositiveFloat
    nuisance_labels: Literal["own", "shuffled"]  # shuffled ones say nothing of the note


@frozen
class Sizes:
    """All that the cost of an iteration depends on, by the paper's letters (paper §III-E)."""

    T: PositiveInt  # frames
    K: PositiveInt  # bins
    N: PositiveInt  # sources
    C: PositiveInt  # entries of a source, in DDS-2 and DDS-3
    M: PositiveInt  # stored frames, in NMF
    F: PositiveInt  # steps of a flow
    hidden: tuple[PositiveInt, ...]  # widths of a coupling's hidden layers


@frozen
class Growth:
    """How far the measured complexity goes."""

    smallest: Sizes
    doublings: Annotated[int, Field(ge=3)]  # of each factor, one at a time: eightfold at least

    def __post_init__(self):
        most = self.smallest.N << self.doublings
        if most >= self.smallest.K:  # DDS-3 has a dimension for each source
            raise ValueError(f"N grows to {most}, expected fewer than K = {self.smallest.K}")


@frozen
class Profile:
    """One complete configuration of the book."""

    name: str
    file: str  # where it was read
    seed: NonNegativeInt
    precision: Literal["single", "mixed"]  # of products, where the device gains by it: see `ddslib.machine.device`
    front_end: FrontEnd
    pitches: Pitches
    rendering: Rendering
    rendered_instruments: Instruments
    maps_instruments: Instruments  # takes the place of the rendered ones with real MAPS
    training: Training
    evaluation: Evaluation
    note_flows: FlowTraining
    conditional_flow: ConditionalFlowTraining
    complexity: Growth
    methods: dict[str, dict[str, Any]]  # the section of every method

    def changed(self, settings: Mapping[str, Any]) -> "Profile":
        """The same with other values of single keys, by their dotted names.  Raises `InputError` naming the key."""
        content = asdict(self)
        return _profile(content | content.pop("methods"), settings)

    def sizes(self, flow: str | None = None, T: int = 1, C: int = 1, M: int = 1) -> Sizes:
        """What the cost of its searches and trainings depends on, with one of its flows; T, C and M are given."""
        F, hidden = 1, (1,)
        if flow is not None:
            recipe: FlowTraining = getattr(self, flow)
            F, hidden = recipe.steps, recipe.hidden
        return Sizes(T=T, K=self.front_end.bins, N=len(self.pitches.numbers), C=C, M=M, F=F, hidden=hidden)


def load_profile(profile: str | Path, settings: Mapping[str, Any] | None = None) -> Profile:
    """Read a profile by its name or by the path of a YAML file.

    `settings` maps dotted keys to values.  Raises `InputError` naming the file and the key.
    """
    files = _read(profile)
    content = reduce(_merged, [content for _, content in reversed(files)])
    path = files[0][0]
    return _profile({"name": path.stem, "file": str(path), **content}, settings or {})


def parse_value(text: str) -> Any:
    """What a key of a profile is set to, as JSON or YAML has it; to YAML alone 1e-4 would be a text.

    Raises `InputError` where it is neither.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{text!r} is not readable; expected a value as in YAML") from error


def profile_files(profile: str | Path) -> list[Path]:
    """All files that a profile is read from: its own, and those that it extends."""
    return [path for path, _ in _read(profile)]


def _read(profile, folder=Path()):
    """A profile's file and what stands in it, then those of the profile that it extends, and so on.

    A path is taken from `folder`, which is that of the file that names it.
    """
    own_file = str(profile).endswith((".yaml", ".yml"))
    path = folder / Path(profile).expanduser() if own_file else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml"))) or "none"
        raise InputError(f"profile {str(profile)!r} not found; expected a .yaml file or one of: {known}")
    try:
        # A copy in which no two sections are one, as they may be in YAML, and all values are plain.
        content = json.loads(json.dumps(yaml.load(path.read_text(encoding="utf-8"), YAML)))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise InputError(f"{path}: not readable as YAML of plain values: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of keys, got {type(content).__name__}")
    parent = content.pop("extends", None)
    try:
        return [(path, content), *(_read(parent, path.parent) if parent else [])]
    except RecursionError:
        raise InputError(f"{path}: extends itself, perhaps through others; expected an end") from None


def _merged(base, changes):
    """`base` with `changes` laid over it, section by section."""
    sections = {k: _merged(base[k], v) for k, v in changes.items() if isinstance(v, dict) and k in _sections(base)}
    return base | changes | sections


def _sections(content):
    return {key for key, value in content.items() if isinstance(value, dict)}


def _profile(content, settings):
    """The profile of `content`, in which some keys are set and methods' sections stand beside the others."""
    for dotted, value in settings.items():
        *sections, key = dotted.split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InputError(f"{content['file']}: no key {dotted!r} to set")
        inner[key] = value
    own = {field.name for field in fields(Profile)}
    methods = {key: section for key, section in content.items() if key not in own and isinstance(section, dict)}
    rest = {key: value for key, value in content.items() if key not in methods}
    return validated(Profile, rest | {"methods": methods}, content["file"])


def validated(kind: type[Kind], content: dict, file: str, section: str = "") -> Kind:
    """A dataclass of the given kind, read from `content`.  Raises `InputError` naming the file and the keys."""
    # JSON is the strict mode in which a list is a tuple and 1 is a float, but "1" is no number.
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except TypeError as error:
        raise InputError(f"{file}: expected numbers, texts, lists and mappings: {error}") from error
    except ValidationError as error:
        prefix = [section] if section else []
        problems = (
            f"{'.'.join(map(str, [*prefix, *e['loc']]))}: {e['msg']} (got {e['input']!r})" for e in error.errors()
        )
        raise InputError(f"{file}: " + "; ".join(problems)) from error
