"""Checkpoints: a state dict and the configuration that made it, never a pickled object."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.config import TrainConfig, from_json, to_json
from training.networks import build_network


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Weights, and where they come from."""

    config: TrainConfig
    weights: dict[str, Tensor]
    step: int
    figures: dict[str, Any]
    """Figures on held-out buildings at this step."""

    def network(self) -> nn.Module:
        """The network with these weights, ready to score."""
        network = build_network(self.config.network, dropout=self.config.dropout)
        network.load_state_dict(self.weights)
        return network.eval()

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "config": to_json(self.config),
                "weights": self.weights,
                "step": self.step,
                "figures": self.figures,
            },
            path,
        )


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint without running any code in it.

    Raises:
        RequestError: if it is missing or no checkpoint of this project.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(
            config=from_json(raw["config"]),
            weights=raw["weights"],
            step=raw["step"],
            figures=raw["figures"],
        )
    except (OSError, KeyError, TypeError, RuntimeError, UnpicklingError) as error:
        raise RequestError(f"{path}: not a checkpoint of this project: {error!r}") from error
