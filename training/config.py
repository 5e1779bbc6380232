"""Configuration of a training run: a common part, and one class per lesson.

    TrainConfig                 network, optimiser, schedule, selection, run
    ├── ImagePairsConfig        source, chips, split by ground
    │   ├── PairsConfig         segmentation: loss, windows that are scored
    │   └── PretrainConfig      contrastive pre-training of an encoder
    ├── GradesConfig            split by rows, loss on damage grades
    │   ├── ChipsConfig         crops of a store
    │   └── VectorsConfig       hazard values alone
    ├── SlidesConfig            landslides per pixel: chips, loss, adapters
    └── TransferConfig          damage per pixel after the event, on a frozen encoder

A configuration is one frozen value that travels with the checkpoint. `training.settings` reads,
writes and changes it.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from quakestream.errors import ConfigError
from training.data.augment import Augmentation
from training.data.splits import BlockSplit, GroundSplit, PairSplit, RegionSplit, RowSplit
from training.losses import CLAY_POSITIVE_WEIGHT, LossWeights, UnlabelledRisk
from training.losses.grades import Reduction

LessonName = Literal["pairs", "pretrain", "chips", "vectors", "slides", "transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserConfig:
    """AdamW and the moving average of the weights."""

    lr: float = 3e-3
    """Largest learning rate of the schedule."""
    encoder_lr: float = 1.0
    """Learning rate of the encoder as a share of `lr`, for small steps after pre-training."""
    weight_decay: float = 1e-2
    clip: float = 1.0
    """Largest norm of a gradient; 0 leaves gradients as they are."""
    ema: float = 0.99
    """Decay of the moving average, which is evaluated and saved; 0 saves the weights themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    """Length of the run, size of a batch, and learning rate over time.

    Raises:
        ConfigError: if a count is below 1.
    """

    steps: int = 900
    """Updates of the weights."""
    epochs: int = 0
    """Passes over the examples. If it is not 0, it decides the number of steps."""
    batch: int = 16
    """Examples per worker."""
    workers: int = 1
    """Workers whose examples make one batch. A run on fewer workers has the same batches."""
    accumulate: int = 1
    """Batches per update."""
    shape: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    """Learning rate over time."""
    warmup: float = 0.2
    """Share of the steps in which the learning rate rises."""

    def __post_init__(self) -> None:
        _check_counts(self, "steps", "batch", "workers", "accumulate")

    @property
    def global_batch(self) -> int:
        """Examples of one batch over all workers."""
        return self.batch * self.workers

    def epoch_steps(self, examples: int) -> int:
        """Steps in which as many examples are drawn as there are."""
        return max(1, math.ceil(examples / (self.global_batch * self.accumulate)))

    def run_steps(self, examples: int) -> int:
        """Updates of the whole run."""
        return self.epochs * self.epoch_steps(examples) or self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionConfig:
    """Which state of a run becomes its checkpoint."""

    checks: int = 3
    """Evaluations in the second half of the run; 0 evaluates after every epoch."""
    best: str = "auc"
    """Figure that decides which state is the best; if empty, the last state is taken."""
    patience: int = 0
    """Evaluations without a better figure after which the run ends; 0 never ends it early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How a run is executed. Only `seed` and `precision` are meant to change its result.

    Raises:
        ConfigError: if a count is below 1.
    """

    seed: int = 1
    keep_every: int = 100
    """Steps between the states that an interrupted run can resume from."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` uses bfloat16 where the device computes faster in it."""
    compile: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        _check_counts(self, "keep_every", "threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What every lesson has: the network and how its weights are updated."""

    lesson: ClassVar[LessonName]
    """Names the class of a configuration wherever it is stored."""

    recipe: str
    network: str
    init: str = ""
    """Checkpoint to start from: all of its weights, or the encoder's."""
    freeze_encoder: bool = False
    dropout: float = 0.0
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def best_figure(self) -> str:
        """Figure that decides which state is the best; empty if the last state is taken."""
        return self.selection.best


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePairsConfig(TrainConfig):
    """What lessons on image pairs have in common.

    Raises:
        ConfigError: if a run could end early because of regions that are its test.
    """

    source: Literal["turkiye", "synthetic", "synthetic_wide", "turkiye_wide"] = "turkiye"
    """`_wide` takes synthetic towns that differ more, a third of them untouched; `turkiye_wide`
    adds six of them to the real pairs, and copies of these with ruins of İslahiye set in."""
    chip_px: int = 128
    """Side of a training chip, pixels."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    split: PairSplit = field(default_factory=PairSplit)
    label_bounds: bool = False
    """Label buildings inside their axis-aligned bounds instead of their outlines."""

    def __post_init__(self) -> None:
        if self.selection.patience and self.split.held_regions:
            raise ConfigError(
                "held-out regions are the test, and a test must not end a run",
                "patience",
                remedy="set patience=0, or hold out a fold of blocks",
            )

    @property
    def best_figure(self) -> str:
        """The last state is taken where the held-out ground is the test."""
        return "" if self.split.held_regions else self.selection.best

    @property
    def ground(self) -> GroundSplit:
        """The rule that names held-out ground."""
        split = self.split
        if split.held_regions:
            return RegionSplit(held_regions=frozenset(split.held_regions))
        return BlockSplit(block_m=split.block_m, folds=split.folds, fold=split.fold)

    @property
    def raw_px(self) -> int:
        """Side of a chip before augmentation, with margin to turn, scale and shift it; even."""
        reach = self.chip_px * 2**0.5 / min(self.augmentation.scale[0], 1.0)
        return 2 * int(reach / 2 + self.augmentation.max_shift_px + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """Windows that held-out buildings are scored in, as a run scores them."""

    window_px: int = 512
    halo_px: int = 16
    """Least margin of a window. A network whose pixels see farther gets the margin that it needs to
    score a window as it would score the whole scene: 16 px for the small networks, 96 for the
    medium, 192 for the large."""
    gsd_m: float = 0.5
    judge_bounds: bool = True
    """Score held-out buildings inside their axis-aligned bounds. Where destroyed buildings are
    polygons and intact ones boxes, the outlines alone would tell them apart."""
    judge_square_m: float = 0.0
    """Score held-out buildings inside squares of this side around their middle, so that not even
    their size can tell; 0: inside their own outlines or bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsConfig(ImagePairsConfig):
    """Segmentation of image pairs: destroyed or intact."""

    lesson: ClassVar[LessonName] = "pairs"

    objective: Literal["buildings", "nnpu", "bce", "dice", "iou"] = "buildings"
    """`buildings` uses `loss`; `nnpu` uses it too, and takes buildings that are not labelled
    destroyed for unlabelled; the others are the papers' losses on pixels."""
    loss: LossWeights = field(default_factory=LossWeights)
    unlabelled: UnlabelledRisk = field(default_factory=UnlabelledRisk)
    """What `nnpu` assumes of unlabelled buildings."""
    windows: WindowConfig = field(default_factory=WindowConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig(ImagePairsConfig):
    """Contrastive pre-training of an encoder on image pairs."""

    lesson: ClassVar[LessonName] = "pretrain"

    margin: float = 1.0
    """Squared distance up to which pairs with damage are pushed apart."""
    width: int = 128
    """Numbers per embedded image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grades:
    """Loss on damage grades, and hazard values that are hidden in training."""

    gamma: float = 4.0
    """Focus on examples that are still wrong; 0 is weighted cross-entropy."""
    reduction: Reduction = "mean"
    balanced: bool = True
    """Classes weigh N / (K n), so that rare classes count as much as common ones."""
    hazard_dropout: Literal["linear", "none"] = "linear"
    """`linear` hides the hazard values of all examples at the start and of none at the end."""
    hazard_least: float = 0.0
    """Share of examples whose hazard values stay hidden to the end. A model that has to work
    without them must not forget how. The papers' schedule ends at 0."""
    hazard_groups: tuple[int, ...] = ()
    """Sizes of the groups of hazard values; if empty, the store's groups, or one group."""
    learned_missing: bool = False
    """Replace a group without any value by a learned token instead of the token of zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradesConfig(TrainConfig):
    """What lessons on damage grades have in common."""

    rows: RowSplit = field(default_factory=RowSplit)
    grades: Grades = field(default_factory=Grades)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSettings:
    """What a building's crop shows."""

    pair: bool = False
    """Stack the pre-event crop under the post-event crop."""
    jitter_px: float = 4.0
    """Largest shift of a training crop against its footprint, pixels."""
    erase_share: float = 0.0
    """Share of training crops in which a rectangle is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipsConfig(GradesConfig):
    """Damage grades from crops of a store, with or without hazard values."""

    lesson: ClassVar[LessonName] = "chips"

    source: tuple[str, ...] = ()
    """URIs of stores that are read as one."""
    chip_px: int = 128
    """Side of a crop, pixels."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    crops: CropSettings = field(default_factory=CropSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """What is read from a file of points, see `training.hazard.points.read_points`."""

    features: tuple[str, ...] = ()
    """Columns; if empty, all that the field points have."""
    classes: tuple[str, ...] = ()
    """Labels, mildest first; if empty, those of the field points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorsConfig(GradesConfig):
    """Damage grades from hazard values alone."""

    lesson: ClassVar[LessonName] = "vectors"

    source: str = "field"
    """`field`, or a file of points."""
    points: Points = field(default_factory=Points)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideView:
    """What a landslide network sees of the chips of a set."""

    bands: tuple[str, ...] = ()
    """Common names in the order of the network's input; all bands of the set if empty."""
    crop_px: int = 128
    """Side of a training crop; chips of that side are taken whole."""
    label_share: float = 1.0
    """Share of the training chips that is used, drawn by the seed."""
    coarsen: int = 1
    """Pixels that are averaged to one, per side, as a sensor of a larger GSD would; the chips
    keep their size."""
    recolour: float = 0.0
    """Strength of random brightness, contrast, colour cast and haze; for counts of RGB."""
    zoom: float = 1.0
    """Largest factor by which a training crop is enlarged or reduced."""
    lift_m: float = 0.0
    """Largest height that is added to the elevation of a training crop, so that a network does not
    learn the altitude of its training regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLoss:
    """Loss on the pixels of landslide chips.

    `bce_lovasz` and `focal_lovasz` are the Clay study's, `focal_factors` is Prithvi's, and the
    others are parts of them. See `training.losses.slides`.
    """

    objective: Literal[
        "bce", "bce_lovasz", "focal_mean", "focal_factors", "focal_weights", "focal_lovasz"
    ] = "bce_lovasz"
    positive_weight: float = CLAY_POSITIVE_WEIGHT
    """Weight of a landslide pixel in cross-entropy; 0 weighs both classes by their share."""
    lovasz_share: float = 0.1
    alpha: float = 0.75
    gamma: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Low-rank adapters in a pre-trained encoder; see `training.networks.lora`."""

    rank: int = 0
    """0 trains without adapters."""
    alpha: float = 8.0
    dropout: float = 0.1
    patterns: tuple[str, ...] = ()
    """Shell patterns of the layers that get one; those of the network's study if empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlidesConfig(TrainConfig):
    """Landslides per pixel, from chips in the layout of Landslide4Sense.

    Two stages, as in the Clay study, are two runs: the second has `adapters.rank` above 0 and
    starts from the checkpoint of the first with `init`.
    """

    lesson: ClassVar[LessonName] = "slides"

    source: str = ""
    """Folder of the set."""
    view: SlideView = field(default_factory=SlideView)
    slide_loss: SlideLoss = field(default_factory=SlideLoss)
    adapters: Adapters = field(default_factory=Adapters)
    threshold: float = 0.5
    """Probability at which `f1`, the figure that chooses a state, is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLoss:
    """Focal loss on pixels, and the two losses of `training.losses.transfer`."""

    alpha: float = 0.7
    """Weight of damaged pixels."""
    gamma: float = 2.0
    prototype_weight: float = 0.01
    """Weight of the loss on pixels whose nearest prototype agrees with the label; 0 is without."""
    triplet_weight: float = 0.001
    """Weight of the distance-penalised triplets; 0 is without."""
    unsure_negatives: bool = False
    """Let patches of unsure label be negatives of triplets, as the published code does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferConfig(TrainConfig):
    """Damage per pixel of images after the event, decoded from a frozen encoder's features.

    Domains are those of `training.data.post_tiles`. The last state is taken, because the held-out
    domains are the test.
    """

    lesson: ClassVar[LessonName] = "transfer"

    domains: tuple[str, ...] = ("synthetic", "adiyaman", "turkoglu-hatay")
    """Domains that are trained on."""
    held: tuple[str, ...] = ("islahiye",)
    """Domains that are judged."""
    tiles: int = 0
    """Number of training tiles, drawn by the seed, for few-shot training; 0 takes all."""
    encoder: str = "lite0"
    weights: str = ""
    """Path of the encoder's weights; see `training.networks.frozen`."""
    transfer_loss: TransferLoss = field(default_factory=TransferLoss)

    @property
    def best_figure(self) -> str:
        return ""


CONFIGS: dict[LessonName, type[TrainConfig]] = {
    config.lesson: config
    for config in (
        PairsConfig,
        PretrainConfig,
        ChipsConfig,
        VectorsConfig,
        SlidesConfig,
        TransferConfig,
    )
}


def _check_counts(config: ScheduleConfig | RunConfig, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ConfigError(
                "too small", name, expected="at least 1", got=str(getattr(config, name))
            )
