"""Flows as files: weights, the curves of their training, and where they come from."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..artefacts import writing
from ..config import InputError
from .flow import Flow
from .glow import ConditionalGlow
from .realnvp import RealNVP

FLOWS = {flow.__name__: flow for flow in (RealNVP, ConditionalGlow)}


def save(flow: Flow, path: Path, history: dict[str, Tensor], provenance: dict[str, Any]):
    """Write weights, ActNorm's state, the curves of the training and where all that came from, in one step."""
    description = {"flow": type(flow).__name__, "arguments": flow.arguments, "provenance": provenance}
    with writing(path) as target:
        save_file(joined(flow=flow.state_dict(), history=history), target, {"description": json.dumps(description)})


def load(path: Path, device: torch.device | str = "cpu") -> tuple[Flow, dict[str, Tensor], dict[str, Any]]:
    """The flow, its history and its provenance.  Raises `InputError` if the file holds no usable flow."""
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            description = json.loads(file.metadata()["description"])
        flow = FLOWS[description["flow"]](**description["arguments"])
        flow.load_state_dict(below("flow", tensors))
        flow.check_weights()
    except (SafetensorError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: expected a flow written by ddslib: {error}") from error
    return flow.to(device), below("history", tensors), description["provenance"]


def joined(**parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of all parts on the CPU, without copies of those that are there; names begin with their part's."""
    return {
        f"{part}.{name}": value.detach().cpu() for part, tensors in parts.items() for name, value in tensors.items()
    }


def below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part of what was `joined`."""
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
