"""The command line: thin, for the pipeline and for people."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from .artefacts import write_text
from .config import InputError, load_profile, parse_value


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

    train = commands.add_parser("train", help="train the flows of the comparison, or go on after an interruption")
    train.add_argument("--flow", choices=("note_flows", "conditional_flow"), help="only one of the two kinds")
    train.set_defaults(run=_train)

    compare = commands.add_parser("compare", help="all methods on the test pianos, as a table")
    compare.set_defaults(run=_compare)

    sweep = commands.add_parser("sweep", help="make the rows that a grid asks for and that are not there yet")
    sweep.add_argument("grid", type=Path, metavar="GRID.csv", help="a line for each row: method, profile keys, ...")
    sweep.add_argument("--stage", choices=("data", "flows", "searches", "rows"), help="only this stage")
    sweep.add_argument("--part", type=_part, default=slice(None), metavar="I/N", help="only the I-th of N parts of it")
    sweep.set_defaults(run=_sweep)

    collect = commands.add_parser("collect", help="write the rows of a grid as one table")
    collect.add_argument("grid", type=Path, metavar="GRID.csv")
    collect.add_argument("--output", type=Path, help="the table (default: in the work folder, named as the grid)")
    collect.set_defaults(run=_collect)

    evaluate = commands.add_parser("evaluate", help="decompose a mixture of chords and print its row as JSON")
    evaluate.add_argument("--method", default="nmf", help="nmf, dds1, dds2 or dds3")
    evaluate.add_argument("--root", default="", help="a tree in MAPS's layout with the chords to decompose")
    evaluate.add_argument("--instrument", help="instrument code, such as ENSTDkCl")
    evaluate.add_argument("--polyphony", type=int, help="2 to 7")
    evaluate.add_argument("--intensity", help="velocity range, such as I32-96")
    evaluate.add_argument("--chords", type=int, help="how many chords are joined")
    evaluate.add_argument("--seed", type=int, help="of the flow and of the search; default: the profile's")
    evaluate.set_defaults(run=_evaluate)

    for command in (render, frames, train, compare, sweep, collect, evaluate):
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
    return key, parse_value(value)


def _part(text: str) -> slice:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N, such as 1/4")
    return slice(int(index) - 1, None, int(count))


def _workspace(options: argparse.Namespace, settings: Mapping[str, object] = MappingProxyType({})):
    from .experiment import Workspace  # here, so that `ddslib maps` and --help need not wait for torch

    profile = load_profile(options.profile, dict(options.settings) | dict(settings))
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
    from . import sweeps
    from .experiment import FLOWS

    workspace = _workspace(options)
    kinds = {options.flow} if options.flow else set(FLOWS.values())
    runs = [sweeps.Run(workspace, e) for e in workspace.comparison() if FLOWS.get(e.method) in kinds]
    for error in sweeps.attempt(runs, ["flows"]).values():
        raise error
    for kind, *choice in {path: needed for run in runs for path, needed in sweeps.flows(run).items()}.values():
        trained = workspace.flow(kind, *choice)
        loss, size = float(trained.best_losses.mean()), trained.flow.size()
        print(f"{kind}: validation loss {loss:.1f} nats a frame; {size} parameters, {trained.seconds:.0f} s")


def _compare(options: argparse.Namespace) -> None:
    import pandas as pd

    from . import sweeps

    workspace = _workspace(options)
    rows = pd.DataFrame(sweeps.evaluate_all([sweeps.Run(workspace, e) for e in workspace.comparison()]))
    columns = ["method", "instrument", "seed", "psa", "average_precision", "sparsity", "f_measure", "relative_error"]
    print(rows[columns].to_string(index=False, float_format="%.3f"))


def _sweep(options: argparse.Namespace) -> None:
    from . import sweeps

    lines = sweeps.read_grid(options.grid, partial(_workspace, options))
    stages = [stage for stage in sweeps.STAGES if options.stage in (None, stage)]
    failures = sweeps.attempt([line.run for line in lines], stages, options.part)
    for line in lines:
        if line.run in failures:
            print(f"{options.grid}, line {line.number}: {failures[line.run]}", file=sys.stderr)
    if failures and "rows" in stages:  # a flow that failed must not keep the rows of others waiting
        raise InputError(f"{len(failures)} of {len(lines)} rows failed; what is right is kept")


def _collect(options: argparse.Namespace) -> None:
    from . import sweeps

    lines = sweeps.read_grid(options.grid, partial(_workspace, options))
    table, missing = sweeps.collect(lines)
    target = options.output or Path(options.work or f"work/{Path(options.profile).stem}") / options.grid.name
    write_text(target, table.to_csv(index=False))
    print(f"{target}: {len(table)} rows")
    if missing:
        numbers = ", ".join(str(line.number) for line in missing)
        raise InputError(f"{options.grid}: no row yet for line {numbers}; expected after `ddslib sweep`")


def _evaluate(options: argparse.Namespace) -> None:
    workspace = _workspace(options)
    names = ("root", "instrument", "polyphony", "intensity", "chords", "seed")
    experiment = workspace.experiment(options.method, **{name: getattr(options, name) for name in names})
    print(json.dumps(workspace.evaluate(experiment), indent=1))


if __name__ == "__main__":
    sys.exit(main())
