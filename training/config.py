"""A run's whole configuration: one frozen value that travels with the checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from quakestream.errors import ConfigError
from training.data.augment import Augmentation
from training.data.split import BlockSplit, RegionSplit, Split
from training.losses import LossWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything a run depends on but the data's bytes."""

    recipe: str
    network: str
    source: Literal["turkiye", "synthetic"] = "turkiye"
    seed: int = 1
    steps: int = 900
    batch: int = 16
    chip_px: int = 128
    """Side of a training chip, pixels."""
    lr: float = 3e-3
    """Largest learning rate of the one-cycle schedule."""
    weight_decay: float = 1e-2
    dropout: float = 0.0
    ema: float = 0.99
    """Decay of the weights' moving average; the average is what is kept."""
    checks: int = 3
    """Times the second half of a run is judged on held-out buildings; the best is kept."""
    threads: int = 1
    loss: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    block_m: float = 150.0
    folds: int = 5
    fold: int = 0
    held_regions: str = ""
    """Comma-separated: these regions are held out whole, instead of a fold of blocks."""
    buffer_m: float = 10.0
    """Training buildings keep this distance from held-out ground."""
    label_bounds: bool = False
    """Buildings are labelled inside their axis-aligned bounds, not their outlines."""
    judge_bounds: bool = True
    """Held-out buildings are judged inside their axis-aligned bounds: where destroyed ones are
    polygons and intact ones boxes, their outlines alone would tell them apart."""
    window_px: int = 512
    halo_px: int = 64
    gsd_m: float = 0.5

    @property
    def split(self) -> Split:
        if self.held_regions:
            return RegionSplit(held_regions=frozenset(self.held_regions.split(",")))
        return BlockSplit(block_m=self.block_m, folds=self.folds, fold=self.fold)

    @property
    def raw_px(self) -> int:
        """Side of a chip as it is cut, with margin to turn, shrink and shift it; even."""
        reach = self.chip_px * 2**0.5 / min(self.augmentation.scale[0], 1.0)
        return 2 * int(reach / 2 + self.augmentation.max_shift_px + 1)


def with_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """The configuration after `key=value` settings; `loss.pixel=1` reaches into a part.

    Raises:
        ConfigError: on an unknown key or a value of the wrong type.
    """
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise ConfigError(f"--set {setting}: expected key=value")
        config = _with(config, key, key.split("."), text)
    return config


def to_json(config: TrainConfig) -> dict[str, Any]:
    """Plain values, to be stored with the weights."""
    return asdict(config)


def from_json(raw: dict[str, Any]) -> TrainConfig:
    """The inverse of `to_json`.

    Raises:
        ConfigError: if the values are not a configuration of this version.
    """
    try:
        augmentation: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in raw["augmentation"].items()
        }
        parts = {"loss": LossWeights(**raw["loss"]), "augmentation": Augmentation(**augmentation)}
        return TrainConfig(**{**raw, **parts})
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"checkpoint configuration: {error}; written by another version"
        ) from error


def _with(value: Any, key: str, path: Sequence[str], text: str) -> Any:
    known = {f.name: getattr(value, f.name) for f in fields(value)}
    if path[0] not in known:
        raise ConfigError(f"--set {key}: no setting {path[0]!r}; known: {', '.join(sorted(known))}")
    old = known[path[0]]
    new = _with(old, key, path[1:], text) if len(path) > 1 else _typed(key, old, text)
    return replace(value, **{path[0]: new})


def _typed(key: str, old: Any, text: str) -> Any:
    """The text as a value of the type the setting has now."""
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, tuple):
            return tuple(float(part) for part in text.split(","))
        if isinstance(old, int | float | str):
            return type(old)(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"--set {key}={text}: expected {type(old).__name__}") from error
    raise ConfigError(f"--set {key}: name one of its fields, such as {key}.{fields(old)[0].name}")
