"""Measure the machine, every method and training, and peers; print tables and keep the numbers.

python -m benchmarks [--device cuda] [--folder results]
"""

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from ddslib.artefacts import write_text
from ddslib.machine import limits
from ddslib.machine.device import policy, resolve_device
from ddslib.machine.rounding import SINGLE
from ddslib.pages import speed

from . import methods, peers

LIBRARIES = ("ddslib", "torch", "normflows", "FrEIA", "zuko", "torchnmf", "scikit-learn")


def main():
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--folder", default="results", help="where bench-<device>.json is written")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    with methods.usual_rounding(device).applied():
        result = _measured(device)
    path = Path(arguments.folder) / f"bench-{policy(device).arithmetic(SINGLE)}.json"
    write_text(path, json.dumps(result, indent=1) + "\n")
    bench = speed.read(path)
    for table in (speed.machines, speed.against_the_limit, speed.against_peers):
        print(table(bench).to_string(), end="\n\n")
    print(f"written: {path}")


def _measured(device):
    sizes = methods.sizes(device)
    usual = None if policy(device).records else limits.measure_limits(device).gflops
    cases = (case for size in sizes for case in methods.cases(size, device))
    measured = [methods.measure(case, device) for case in tqdm(cases, "against the limit", disable=None)]
    rows, reached = zip(*measured, strict=True)
    return {
        "device": limits.name(device),
        "limits": limits.median_limits(reached)._asdict() | {"usual_gflops": usual},
        "rows": rows,
        "peers": list(tqdm(peers.rows(*sizes, device), "against other libraries", disable=None)),
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
    }


if __name__ == "__main__":
    main()
