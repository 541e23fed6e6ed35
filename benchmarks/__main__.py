"""Measure the machine, every method and training, and peers; print tables and keep the numbers.

python -m benchmarks [--device cuda] [--folder results]
"""

import argparse
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

import ddslib
from ddslib import machine
from ddslib.artefacts import write_text
from ddslib.experiment import resolve_device
from ddslib.precision import tensor_cores

from . import methods, peers


def main() -> None:
    arguments = _arguments()
    device = resolve_device(arguments.device)
    with tensor_cores(device.type == "cuda"):
        result = _measured(device)
    path = Path(arguments.folder) / f"bench-{device.type}.json"
    write_text(path, json.dumps(result, indent=1) + "\n")
    print(f"written: {path}")


def _measured(device: torch.device) -> dict:
    sizes = methods.sizes(device)
    smoke, laptop, paper = sizes
    usual = machine.measure_limits(device).gflops if device.type == "cpu" else None
    rows, limits = [], []
    for size in sizes:
        for case in tqdm(methods.cases(size, device), total=6, desc=size.name, disable=None, leave=False):
            row, measured = methods.measure(case, device)
            rows.append(row)
            limits.append(measured)
            print(_line(row), flush=True)
    print(flush=True)
    compared = []
    for row in _peer_rows(smoke, laptop, paper, device):
        compared.append(row)
        print(_peer_line(row), flush=True)
    limit = machine.median_limits(limits)
    print(f"\nproducts {limit.gflops:.0f} GFLOP/s, copies {limit.gbytes:.0f} GB/s, medians of {len(limits)}")
    if usual:
        print(f"products as torch does them by itself {usual:.0f} GFLOP/s")
    return {
        "device": machine.name(device),
        "limits": {"gflops": limit.gflops, "gbytes": limit.gbytes, "usual_gflops": usual},
        "rows": rows,
        "peers": compared,
        "versions": _versions(),
    }


def _peer_rows(smoke: methods.Size, laptop: methods.Size, paper: methods.Size, device: torch.device) -> Iterable[dict]:
    for pairs in (
        peers.flow_pairs(laptop, device),
        peers.product_pairs(laptop, device),
        peers.precision_pairs(laptop, device),
        peers.precision_pairs(paper, device),
    ):
        yield from (peers.compare(pair, device) for pair in pairs)
    yield from peers.nmf_rows(smoke, device)


def _line(row: dict) -> str:
    memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:8.0f} MiB"
    products = "" if row["products_ms"] is None else f"{row['products_ms']:9.1f} ms products"
    return (
        f"{row['name']:22} {row['size']:13} {row['ms']:9.1f} ms {products} {row['operations'] / 1e9:8.2f} GFLOP "
        f"{row['bytes'] / 1e6:8.0f} MB {row['fraction']:6.2f} of the limit {memory}"
    )


def _peer_line(row: dict) -> str:
    low, high = row["ratio_spread"]
    ratio = f"{row['ratio']:.1f} x [{low:.1f}, {high:.1f}]" if row["reached"] else f"> {row['ratio']:.0f} x"
    return f"{row['work']:40} {row['ours_ms']:8.0f} ms  {row['peer']:28} {row['peer_ms']:8.0f} ms  {ratio}"


def _versions() -> dict[str, str]:
    names = ("torch", "normflows", "FrEIA", "zuko", "torchnmf", "scikit-learn")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"ddslib": ddslib.__version__, "python": platform.python_version(), **versions}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--folder", default="results", help="where bench-<device>.json is written")
    return parser.parse_args()


if __name__ == "__main__":
    main()
