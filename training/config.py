"""A run's whole configuration: one frozen value that travels with the checkpoint."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from quakestream.errors import ConfigError
from training.data.augment import Augmentation
from training.data.split import BlockSplit, RegionSplit, Split
from training.losses import LossWeights
from training.losses.grades import Reduction

LessonName = Literal["pairs", "pretext", "chips", "vectors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretext:
    """Contrastive pre-training of an encoder."""

    margin: float = 1.0
    """Squared distance that pairs with damage are pushed apart to."""
    width: int = 128
    """Numbers per embedded image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Which rows of a table are trained on, which are chosen by, and which are the test.

    Except under the papers' names, rows to choose by are blocks of what is not the test.
    """

    split: Literal["blocks", "regions", "sources", "paper-85-15", "paper-70-15-15"] = "blocks"
    """`paper-85-15` chooses on the 15 % it is then reported on, as was done there."""
    block: float = 1000.0
    """Side of a block: metres in a store, degrees for points."""
    buffer: float = 200.0
    """Rows nearer than this to held-out blocks are not trained on; in the same unit."""
    folds: int = 5
    fold: int = 0
    """The test, for `blocks`."""
    held: str = ""
    """Comma-separated: the test, for `regions` and `sources`."""
    labels: float = 1.0
    """Share of the training labels that is used."""
    seed: int = 0
    """Of the split alone: runs of other seeds are judged on the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What is read of a file of points, see `training.hazard.points.read_points`."""

    features: str = ""
    """Comma-separated columns; empty: all that the field points have."""
    classes: str = ""
    """Comma-separated, mildest first; empty: those of the field points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSettings:
    """What a building's crop shows."""

    pair: bool = False
    """The pre-event crop goes in too, under the post-event one."""
    jitter_px: float = 4.0
    """Largest shift of the crop against the footprint in training, pixels."""
    erase_share: float = 0.0
    """Share of training crops with a rectangle erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """How a classifier of damage grades learns."""

    gamma: float = 4.0
    """Focus on examples that are still wrong; 0 is weighted cross-entropy."""
    reduction: Reduction = "mean"
    balanced: bool = True
    """Classes weigh N / (K n), so that rare ones count as much."""
    hazard_dropout: Literal["linear", "none"] = "linear"
    """`linear`: at the start all examples lack their hazard values, at the end none does."""
    hazard_least: float = 0.0
    """Share of examples that lack them to the end: a model that is to work where they are missing
    must not forget how. The papers' schedule ends at 0."""
    hazard_groups: str = ""
    """Comma-separated sizes of groups of hazard values; empty: the store's, or one group."""
    learned_missing: bool = False
    """A group without any value becomes a learned token instead of that of zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything a run depends on but the data's bytes."""

    recipe: str
    network: str
    lesson: LessonName = "pairs"
    source: str = "turkiye"
    """`turkiye` or `synthetic` pairs; for `chips` URIs of stores, separated by commas; for
    `vectors` `field` or a file of points."""
    init: str = ""
    """Checkpoint whose weights are started from: all of them, or the encoder's."""
    freeze_encoder: bool = False
    encoder_lr: float = 1.0
    """Learning rate of the encoder as a share of `lr`, for gentle steps after a pretext."""
    seed: int = 1

    steps: int = 900
    """Updates of the weights."""
    epochs: int = 0
    """Passes over the examples; where it is not 0 it says how many steps there are."""
    batch: int = 16
    """Chips per worker."""
    workers: int = 1
    """Workers whose chips make one batch. A run on fewer of them shares the same batches."""
    accumulate: int = 1
    """Batches per update."""
    lr: float = 3e-3
    """Largest learning rate of the schedule."""
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup: float = 0.2
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 1e-2
    clip: float = 1.0
    """Largest norm of a gradient; 0 leaves gradients as they are."""
    dropout: float = 0.0
    ema: float = 0.99
    """Decay of the weights' moving average, which is what is judged and kept; 0: the weights."""

    checks: int = 3
    """Times the second half of a run is judged on held-out buildings; 0: after every epoch."""
    best: str = "auc"
    """Figure the kept state is chosen by; empty: the last state is kept."""
    patience: int = 0
    """Judgings without a better figure after which a run ends; 0: it does not."""
    keep_every: int = 100
    """Steps between states that an interrupted run goes on from."""

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bfloat16 where the device computes faster in it."""
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1

    chip_px: int = 128
    """Side of a training chip, pixels."""
    objective: Literal["buildings", "bce", "dice", "iou"] = "buildings"
    """Loss of segmentation networks: `loss` on buildings, or one of the papers' on pixels."""
    loss: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    pretext: Pretext = field(default_factory=Pretext)
    rows: Rows = field(default_factory=Rows)
    crops: CropSettings = field(default_factory=CropSettings)
    points: Points = field(default_factory=Points)
    grades: Grades = field(default_factory=Grades)
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
    halo_px: int = 16
    """Enough for the small networks to say of a window what they would say of the whole scene."""
    gsd_m: float = 0.5

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "workers", "accumulate", "keep_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.patience and self.held_regions:
            raise ConfigError(
                "patience: held-out regions are the test, and a run must not end by them; "
                "set patience=0, or hold out a fold of blocks"
            )

    @property
    def chosen_by(self) -> str:
        """Figure the kept state is chosen by; none where what is held out is the test."""
        return "" if self.held_regions else self.best

    @property
    def global_batch(self) -> int:
        """Chips of one batch over all workers."""
        return self.batch * self.workers

    def epoch_steps(self, examples: int) -> int:
        """Steps in which as many chips are drawn as there are examples."""
        return max(1, math.ceil(examples / (self.global_batch * self.accumulate)))

    def run_steps(self, examples: int) -> int:
        """Updates of the whole run."""
        return self.epochs * self.epoch_steps(examples) or self.steps

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


PARTS: dict[str, type] = {
    "loss": LossWeights,
    "augmentation": Augmentation,
    "pretext": Pretext,
    "rows": Rows,
    "crops": CropSettings,
    "points": Points,
    "grades": Grades,
}


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
    """The inverse of `to_json`. Settings that older versions did not have take their defaults.

    Raises:
        ConfigError: if the values are not a configuration of this version.
    """
    try:
        parts = {name: part(**_tuples(raw[name])) for name, part in PARTS.items() if name in raw}
        return TrainConfig(**{**raw, **parts})
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"checkpoint configuration: {error}; written by another version"
        ) from error


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}


def _with(value: Any, key: str, path: Sequence[str], text: str) -> Any:
    known = {f.name: getattr(value, f.name) for f in fields(value)}
    if path[0] not in known:
        raise ConfigError(f"--set {key}: no setting {path[0]!r}; known: {', '.join(sorted(known))}")
    old = known[path[0]]
    if len(path) > 1:
        if not is_dataclass(old):
            raise ConfigError(f"--set {key}: {path[0]} has no parts")
        new = _with(old, key, path[1:], text)
    else:
        new = _typed(key, old, text, get_args(get_type_hints(type(value))[path[0]]))
    return replace(value, **{path[0]: new})


def _typed(key: str, old: Any, text: str, choices: tuple[Any, ...]) -> Any:
    """The text as a value of the type the setting has now."""
    if isinstance(old, str) and choices and text not in choices:
        raise ConfigError(f"--set {key}={text}: expected one of {', '.join(choices)}")
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
