"""Checkpoints: weights and the configuration that made them, never a pickled object."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, RequestError
from training.config import TrainConfig, from_json, to_json
from training.networks import MetaFormer, NetworkInputs, build_network
from training.networks.official import load_official

HEADS = ("decoder.", "up.", "embedding.", "head.", "meta_")
"""Weights whose names start so answer a task; the rest is the encoder."""
OFFICIAL = "official:"
"""Before the path of a file of official MetaFormer weights."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Weights, and where they come from."""

    config: TrainConfig
    weights: dict[str, Tensor]
    step: int
    figures: dict[str, Any]
    """Figures on validation data at this step."""
    inputs: NetworkInputs = field(default_factory=NetworkInputs)
    """What the network was built for."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values the weights mean nothing without: classes, names and means of hazard values."""

    def network(self) -> nn.Module:
        """The network with these weights, ready to score.

        Raises:
            RequestError: if they are those of a pretext, which has nothing to say of damage.
        """
        if self.config.lesson == "pretext":
            raise RequestError(
                f"checkpoint of {self.config.recipe}: a pre-trained encoder judges nothing; "
                "train a recipe of pairs with --set init=PATH first"
            )
        network = build_network(
            self.config.network, dropout=self.config.dropout, inputs=self.inputs
        )
        network.load_state_dict(self.weights)
        return network.eval()

    def as_plain(self) -> dict[str, Any]:
        """Values that are read back without running code."""
        return {
            "config": to_json(self.config),
            "weights": self.weights,
            "step": self.step,
            "figures": self.figures,
            "inputs": asdict(self.inputs),
            "facts": self.facts,
        }

    def save(self, path: Path) -> None:
        write_plain(path, self.as_plain())


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint without running any code in it.

    Raises:
        RequestError: if it is missing or no checkpoint of this project.
    """
    return as_checkpoint(read_plain(path), str(path))


def as_checkpoint(raw: Mapping[str, Any], source: str) -> Checkpoint:
    """The inverse of `as_plain`; checkpoints of older versions are read too.

    Raises:
        RequestError: if it is not a checkpoint's values.
    """
    try:
        inputs = dict(raw.get("inputs", {}))
        if "hazard_groups" in inputs:
            inputs["hazard_groups"] = tuple(inputs["hazard_groups"])
        return Checkpoint(
            config=from_json(raw["config"]),
            weights=dict(raw["weights"]),
            step=raw["step"],
            figures=raw["figures"],
            inputs=NetworkInputs(**inputs),
            facts=raw.get("facts", {}),
        )
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RequestError(f"{source}: not a checkpoint of this project: {error!r}") from error


def write_plain(path: Path, values: Mapping[str, Any]) -> None:
    """Writes values and tensors so that the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(dict(values), part)
    part.replace(path)


def read_plain(path: Path) -> dict[str, Any]:
    """Reads values and tensors, and refuses pickled objects.

    Raises:
        RequestError: if there is no such file, or anything else in it.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(f"{path}: not a checkpoint of this project: {reason}") from error
    if not isinstance(raw, dict):
        raise RequestError(
            f"{path}: not a checkpoint of this project: it holds a {type(raw).__name__}"
        )
    return raw


def start_from(network: nn.Module, config: TrainConfig) -> str:
    """Loads the weights a run starts from; says how much of them fitted.

    All of them when the architecture is the same; the encoder's when only the task differs, as
    after a pretext.

    Raises:
        RequestError: if they are of another architecture; the message names what differs.
    """
    if config.init.startswith(OFFICIAL):
        if not isinstance(network, MetaFormer):
            raise RequestError(
                f"init={config.init}: official weights fit qif and qmf networks only"
            )
        report = load_official(network, Path(config.init.removeprefix(OFFICIAL)))
        return f"{len(report.loaded)} official weights"
    source = load_checkpoint(Path(config.init))
    own, found = network.state_dict(), source.weights
    if _shapes(own) == _shapes(found):
        network.load_state_dict(found)
        return "all"
    return _load_encoder(network, found, f"init={config.init} ({source.config.network})", config)


def _load_encoder(
    network: nn.Module, found: Mapping[str, Tensor], source: str, config: TrainConfig
) -> str:
    bare = {name.removeprefix("network."): value for name, value in found.items()}
    own = network.state_dict()
    fitting: dict[str, Tensor] = {}
    for name, value in own.items():
        plain = name.removeprefix("network.")
        if plain.startswith(HEADS):
            continue
        there = tuple(bare[plain].shape) if plain in bare else "nothing"
        if there != tuple(value.shape):
            raise RequestError(
                f"{source} is of another architecture than {config.network}: {plain} is {there} "
                f"there, expected {tuple(value.shape)}; start from a checkpoint of this network"
            )
        fitting[name] = bare[plain]
    if not fitting:
        raise RequestError(f"{source}: {config.network} has no encoder to start from it")
    network.load_state_dict({**own, **fitting})
    return "encoder"


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}
