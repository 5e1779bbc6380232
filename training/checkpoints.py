"""Checkpoints: weights and the configuration that made them. They hold no pickled object."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, RequestError
from training.config import SlidesConfig, TrainConfig
from training.foreign_errors import first_line
from training.networks import LiteSiam, MetaFormer, NetworkInputs, PixelNetwork, build_network
from training.networks.importing import ImportReport
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.networks.lora import LoraConfig, LoraLinear, add_lora, merge_lora
from training.networks.official import load_official
from training.settings import from_json, to_json

Config = TypeVar("Config", bound=TrainConfig)

HEADS = ("decoder.", "up.", "embedding.", "head.", "meta_")
"""Prefixes of the weights that belong to a task; all other weights are the encoder's."""
OFFICIAL = "official:"
"""Prefix of the path of official weights."""
NOT_OURS = "not a checkpoint of this project"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Weights and their origin."""

    config: TrainConfig
    weights: dict[str, Tensor]
    step: int
    figures: dict[str, Any]
    """Figures on validation data at this step."""
    inputs: NetworkInputs = field(default_factory=NetworkInputs)
    """Sizes that the network was built for."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain values that the weights need: classes, names and means of hazard values."""

    def config_as(self, kind: type[Config]) -> Config:
        """The configuration, if it is of one kind of lesson.

        Raises:
            RequestError: if it is of another lesson.
        """
        if isinstance(self.config, kind):
            return self.config
        raise RequestError(
            f"checkpoint is of lesson {self.config.lesson}",
            self.config.recipe,
            remedy=f"name a checkpoint whose configuration is a {kind.__name__}",
        )

    def network(self) -> nn.Module:
        """The network with these weights, in evaluation mode.

        Raises:
            RequestError: if the weights are a pre-trained encoder, which does not score damage.
        """
        if self.config.lesson == "pretrain":
            raise RequestError(
                "checkpoint is a pre-trained encoder, which does not score damage",
                self.config.recipe,
                remedy="train a recipe of lesson pairs from it with --set init=PATH",
            )
        network = build_network(
            self.config.network, dropout=self.config.dropout, inputs=self.inputs
        )
        network = with_adapters(network, self.config)
        network.load_state_dict(self.weights)
        merge_lora(network)
        return network.eval()

    def as_plain(self) -> dict[str, Any]:
        """Values that can be read back without running code."""
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
        RequestError: if it is missing or not a checkpoint of this project.
    """
    return as_checkpoint(read_plain(path), str(path))


def as_checkpoint(raw: Mapping[str, Any], source: str) -> Checkpoint:
    """The inverse of `as_plain`; checkpoints of earlier versions are read too.

    Raises:
        RequestError: if the values are not a checkpoint's.
    """
    try:
        stored: dict[str, Any] = dict(raw.get("inputs", {}))
        inputs: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()
        }
        return Checkpoint(
            config=from_json(raw["config"]),
            weights=dict(raw["weights"]),
            step=raw["step"],
            figures=raw["figures"],
            inputs=NetworkInputs(**inputs),
            facts=raw.get("facts", {}),
        )
    except ConfigError as error:
        raise RequestError(
            f"{NOT_OURS} ({error.what})", source, error.expected, error.got, error.remedy
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{NOT_OURS} ({first_line(error)})", source) from error


def write_plain(path: Path, values: Mapping[str, Any]) -> None:
    """Writes values and tensors to a file that is either whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(dict(values), part)
    part.replace(path)


def read_plain(path: Path) -> dict[str, Any]:
    """Reads values and tensors, and refuses pickled objects.

    Raises:
        RequestError: if there is no such file, or it holds anything else.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
        raise RequestError(f"{NOT_OURS} ({first_line(error)})", str(path)) from error
    if not isinstance(raw, dict):
        raise RequestError(NOT_OURS, str(path), got=f"a {type(raw).__name__}")
    return raw


def start_from(network: nn.Module, config: TrainConfig) -> str:
    """Loads the weights that a run starts from; the answer names what was loaded.

    All weights are loaded if the architecture is the same. The encoder's are loaded if only the
    task differs, as after pre-training.

    Raises:
        RequestError: if the architectures differ; the error names a weight that differs.
    """
    if config.init.startswith(OFFICIAL):
        return f"{len(_load_official(network, config).loaded)} official weights"
    source = load_checkpoint(Path(config.init))
    if _starts_adapters(network, source.weights):
        return "all but the adapters"
    if _shapes(network.state_dict()) == _shapes(source.weights):
        network.load_state_dict(source.weights)
        return "all"
    where = f"init={config.init} ({source.config.network})"
    return _load_encoder(network, source.weights, where, config)


def _load_official(network: nn.Module, config: TrainConfig) -> ImportReport:
    """Loads official weights; `official:` without a path means those that are installed."""
    path = config.init.removeprefix(OFFICIAL)
    if isinstance(network, LiteSiam | PixelNetwork):
        return network.load_official(Path(path) if path else None)
    if not isinstance(network, MetaFormer):
        raise RequestError(
            "official weights do not fit this network",
            f"init={config.init}",
            expected="a qif, qmf, lite0 or landslide network",
            got=config.network,
        )
    return load_official(network, Path(path))


def with_adapters(network: nn.Module, config: TrainConfig) -> nn.Module:
    """The network with the adapters that its configuration asks for, in place."""
    if isinstance(config, SlidesConfig) and config.adapters.rank:
        wanted = config.adapters
        lora = LoraConfig(
            patterns=wanted.patterns or LANDSLIDE_NETWORKS[config.network].lora,
            rank=wanted.rank,
            alpha=wanted.alpha,
            dropout=wanted.dropout,
        )
        add_lora(network, lora)
    return network


def _starts_adapters(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Loads weights of the same network without adapters, if it has adapters and they fit."""
    adapted = {n for n, m in network.named_modules() if isinstance(m, LoraLinear)}
    if not adapted:
        return False
    renamed = {}
    for name, value in weights.items():
        layer, _, last = name.rpartition(".")
        renamed[f"{layer}.base.{last}" if layer in adapted else name] = value
    own = {n: v for n, v in network.state_dict().items() if "lora_" not in n}
    if _shapes(own) != _shapes(renamed):
        return False
    network.load_state_dict(renamed, strict=False)
    return True


def _load_encoder(
    network: nn.Module, weights: Mapping[str, Tensor], where: str, config: TrainConfig
) -> str:
    bare = {name.removeprefix("network."): value for name, value in weights.items()}
    own = network.state_dict()
    fitting: dict[str, Tensor] = {}
    for name, value in own.items():
        plain = name.removeprefix("network.")
        if plain.startswith(HEADS):
            continue
        shape = tuple(bare[plain].shape) if plain in bare else "nothing"
        if shape != tuple(value.shape):
            raise RequestError(
                f"another architecture than {config.network}: {plain} differs",
                where,
                expected=str(tuple(value.shape)),
                got=str(shape),
                remedy="start from a checkpoint of this network",
            )
        fitting[name] = bare[plain]
    if not fitting:
        raise RequestError(f"{config.network} has no encoder", where)
    network.load_state_dict({**own, **fitting})
    return "encoder"


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}
