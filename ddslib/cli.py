"""The command line: thin, for the pipeline and for people."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

import yaml

from .config import InputError, load_profile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input and failed writes end in one line and exit status 1."""
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (InputError, OSError) as error:
        print(f"ddslib: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ddslib: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ddslib", description="Differentiable Dictionary Search for piano music")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    maps = commands.add_parser("maps", help="print what a tree in MAPS's layout holds")
    maps.add_argument("root", metavar="ROOT")
    maps.set_defaults(run=_maps)

    render = commands.add_parser("render", help="render the corpus that a profile asks for")
    render.set_defaults(run=_render)

    frames = commands.add_parser("frames", help="prepare the training frames of a profile")
    frames.set_defaults(run=_frames)

    train = commands.add_parser("train", help="train the flows that the book needs, or go on after an interruption")
    train.add_argument("--flow", choices=("note_flows", "conditional_flow"), help="only one of the two kinds")
    train.add_argument("--without", metavar="CODE", help="only those that leave out the family of this piano")
    train.add_argument("--seed", type=int, help="only those of this seed")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="decompose a mixture of chords and print its row as JSON")
    evaluate.add_argument("--method", default="nmf", help="nmf, dds1, dds2 or dds3")
    evaluate.add_argument("--root", default="", help="a tree in MAPS's layout with the chords to decompose")
    evaluate.add_argument("--instrument", help="instrument code, such as ENSTDkCl")
    evaluate.add_argument("--polyphony", type=int, help="2 to 7")
    evaluate.add_argument("--intensity", help="velocity range, such as I32-96")
    evaluate.add_argument("--chords", type=int, help="how many chords are joined")
    evaluate.add_argument("--seed", type=int, help="of the flow and of the search; default: the profile's")
    evaluate.set_defaults(run=_evaluate)

    for command in (render, frames, train, evaluate):
        command.add_argument("--profile", default="laptop", help="name in profiles/, or a .yaml file")
        command.add_argument(
            "--set", action="append", default=[], type=_setting, dest="settings", metavar="KEY=VALUE",
            help="one key of the profile, such as nmf.iterations=100; may be repeated",
        )  # fmt: skip
        command.add_argument("--work", default=None, help="folder for what is computed (default: work/PROFILE)")
        command.add_argument("--maps-root", default="", help="real MAPS in place of the rendered corpus")
        command.add_argument("--device", default="auto")
    return parser


def _setting(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}; expected KEY=VALUE")
    return key, yaml.safe_load(value)


def _workspace(options: argparse.Namespace):
    from .experiment import Workspace  # here, so that `ddslib maps` and --help need not wait for torch

    profile = load_profile(options.profile, dict(options.settings))
    return Workspace(profile, options.work or f"work/{profile.name}", options.maps_root, options.device)


def _maps(options: argparse.Namespace) -> None:
    from .maps import inventory

    print(f"{'instrument':<12}{'set':<6}{'files':>7}{'hours':>8}{'missing partners':>18}")
    for holding in inventory(options.root):
        print(
            f"{holding.instrument:<12}{holding.set:<6}{holding.recordings:>7}{holding.hours:>8.2f}{holding.missing:>18}"
        )


def _render(options: argparse.Namespace) -> None:
    _workspace(options).render()


def _frames(options: argparse.Namespace) -> None:
    workspace = _workspace(options)
    workspace.frames()
    workspace.frames(without=workspace.instruments.validation)


def _train(options: argparse.Namespace) -> None:
    workspace = _workspace(options)
    wanted = {"kind": options.flow, "without": options.without, "seed": options.seed}
    chosen = {name: value for name, value in wanted.items() if value is not None}
    for kind, without, seed in workspace.needed_flows(**chosen):
        trained = workspace.flow(kind, without, seed)
        loss, size = float(trained.best_losses.mean()), trained.flow.size()
        print(f"{kind}: validation loss {loss:.1f} nats a frame; {size} parameters, {trained.seconds:.0f} s")


def _evaluate(options: argparse.Namespace) -> None:
    workspace = _workspace(options)
    names = ("root", "instrument", "polyphony", "intensity", "chords", "seed")
    experiment = workspace.experiment(options.method, **{name: getattr(options, name) for name in names})
    print(json.dumps(workspace.evaluate(experiment), indent=1))


if __name__ == "__main__":
    sys.exit(main())
