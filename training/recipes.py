"""Recipes: functions that return a whole configuration. `--set` changes single values."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from quakestream.errors import ConfigError
from training.config import (
    ChipsConfig,
    Grades,
    PairsConfig,
    PretrainConfig,
    SlidesConfig,
    TrainConfig,
    TransferConfig,
    TransferLoss,
    VectorsConfig,
)
from training.data.augment import Augmentation
from training.data.splits import FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, RowSplit
from training.data.synthetic import HELD_SEEDS, WIDE_HELD_SEEDS, region_of
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.settings import new_config

_SEGMENTATION: dict[str, dict[str, Any]] = {
    "small": {},
    "medium": {"lr": 2e-3, "steps": 500},
    "large": {"lr": 1e-3, "steps": 500},
}


def fc_siam(mode: str, width: str) -> PairsConfig:
    """A pixel network on the Türkiye pairs, trained from random weights."""
    name = f"fc_{mode}_{width}"
    return new_config(PairsConfig, recipe=name, network=name, **_SEGMENTATION[width])


STRONG = Augmentation(
    turn_share=0.5,
    gamma=0.15,
    contrast=0.2,
    brightness=0.25,
    cast=0.1,
    haze=0.4,
    sharpness=(-0.6, 0.9),
    grey_share=0.15,
)
"""Augmentation for synthetic scenes, which differ less from each other than real ones."""


def synthetic_small() -> PairsConfig:
    """Small on synthetic earthquakes alone; towns of other seeds are held out."""
    return new_config(
        PairsConfig,
        recipe="synthetic_small",
        network="fc_siam_diff_small",
        source="synthetic",
        steps=1000,
        judge_bounds=False,
        held_regions=tuple(region_of(seed) for seed in HELD_SEEDS),
        augmentation=STRONG,
    )


def fc_siam_diff_turkiye() -> PairsConfig:
    """The model that ships as `damage-turkiye-2023`: small steps from `synthetic_small`.

    It is trained on all real pairs and no ground is held out. `training.export --left-out`
    calibrates it by runs that left each region out.
    """
    return new_config(
        PairsConfig,
        recipe="fc_siam_diff_turkiye",
        network="fc_siam_diff_small",
        init="runs/synthetic_small/checkpoint.pt",
        held_regions=("none",),
        steps=300,
        lr=3e-4,
    )


def synthetic_lite0() -> PairsConfig:
    """Lite0 from ImageNet on synthetic towns that differ more, a third of them untouched."""
    return new_config(
        PairsConfig,
        recipe="synthetic_lite0",
        network="fc_siam_diff_lite0",
        init="official:",
        source="synthetic_wide",
        steps=800,
        lr=2e-3,
        encoder_lr=0.1,
        dropout=0.1,
        judge_bounds=False,
        held_regions=tuple(region_of(seed) for seed in WIDE_HELD_SEEDS),
        augmentation=STRONG,
    )


def lite0_turkiye() -> PairsConfig:
    """Small steps from `synthetic_lite0` on real pairs, with ruins of İslahiye and towns beside.

    With all regions trained on no ground is held out; `training.regions` leaves each out.
    """
    return new_config(
        PairsConfig,
        recipe="lite0_turkiye",
        network="fc_siam_diff_lite0",
        init="runs/synthetic_lite0/checkpoint.pt",
        source="turkiye_wide",
        held_regions=("none",),
        steps=150,
        lr=5e-4,
        encoder_lr=0.2,
        dropout=0.1,
        augmentation=STRONG,
    )


def epfl(
    mode: str,
    *,
    objective: Literal["dice", "iou"],
    lr: float,
    weight_decay: float,
    dropout: float,
    accumulate: int = 1,
) -> PairsConfig:
    """The recipe of the EPFL study on Kahramanmaraş 2023, as published.

    It trains for 100 epochs on 1024 px tiles at a constant rate and takes the best validation
    IoU. The study counts every pixel of a tile; here only pixels of labelled buildings count, so
    that the figures must not be set beside the published ones. It needs a GPU; `--set chip_px=128`
    is enough for a trial.
    """
    return new_config(
        PairsConfig,
        recipe=f"epfl_fc_{mode}_large",
        network=f"fc_{mode}_large",
        epochs=100,
        batch=4,
        accumulate=accumulate,
        lr=lr,
        weight_decay=weight_decay,
        dropout=dropout,
        shape="constant",
        clip=0.0,
        ema=0.0,
        checks=0,
        best="labelled_pixel_iou",
        objective=objective,
        chip_px=1024,
    )


def pretrain_siam_diff_small() -> PretrainConfig:
    """The encoder of Small, pre-trained to tell damaged places from intact ones by both dates.

    Next step: `fc_siam_diff_small --set init=runs/pretrain_siam_diff_small-1/checkpoint.pt`.
    """
    return new_config(
        PretrainConfig,
        recipe="pretrain_siam_diff_small",
        network="fc_siam_diff_small",
        steps=600,
        lr=1e-3,
        weight_decay=1e-4,
        shape="cosine",
        warmup=0.1,
        checks=2,
    )


def qmf_384() -> ChipsConfig:
    """QuakeMetaFormer as published: MetaFG-2 at 384 px, batch 20, 150 epochs, 20 of them warm-up.

    Learning rates are the paper's times 20 / 512, as in its code. Add `--set source=STORE`, and
    `--set init=official:PATH` for the weights that the paper starts from.
    """
    return new_config(
        ChipsConfig,
        recipe="qmf_384",
        network="qmf_2",
        epochs=150,
        batch=20,
        lr=5e-5 * 20 / 512,
        shape="cosine",
        warmup=20 / 150,
        weight_decay=0.05,
        dropout=0.1,
        ema=0.0,
        checks=0,
        best="macro_auc",
        chip_px=384,
        rows=RowSplit(split="paper-85-15"),
        grades=Grades(reduction="official"),
    )


def building_tiny(kind: Literal["qif", "qmf"]) -> ChipsConfig:
    """The smallest building network, for 2 cores. Add `--set source=STORE`."""
    return new_config(
        ChipsConfig,
        recipe=f"{kind}_tiny",
        network=f"{kind}_tiny",
        steps=1500,
        batch=32,
        lr=1e-3,
        shape="cosine",
        warmup=0.1,
        weight_decay=0.05,
        dropout=0.1,
        best="macro_auc",
        chip_px=64,
        grades=Grades(gamma=2.0),
    )


def hazard_mlp() -> VectorsConfig:
    """Damage from hazard values alone, on the field points of Yu et al. 2024."""
    return new_config(
        VectorsConfig,
        recipe="hazard_mlp",
        network="hazard_mlp",
        steps=1500,
        batch=256,
        lr=2e-3,
        shape="cosine",
        warmup=0.1,
        weight_decay=0.05,
        dropout=0.1,
        best="macro_auc",
        precision="fp32",
        rows=RowSplit(block=FIELD_BLOCK_DEG, buffer=FIELD_BUFFER_DEG),
        grades=Grades(gamma=0.0, hazard_dropout="none", hazard_groups=(4, 1)),
    )


def slides(network: str) -> SlidesConfig:
    """Landslides on chips in the layout of Landslide4Sense, by the Clay study's recipe.

    Batches of 8, AdamW with a cosine, 50 epochs, the best validation F1 at a fixed threshold.
    Add `--set source=FOLDER`. `python -m training.slides` runs the whole protocol.
    """
    return new_config(
        SlidesConfig,
        recipe=f"slides_{network}",
        network=network,
        epochs=50,
        batch=8,
        lr=3e-4,
        weight_decay=1e-3,
        shape="cosine",
        warmup=0.0,
        ema=0.0,
        checks=0,
        patience=10,
        best="f1",
        dropout=0.1,
    )


def landslide_s2_synthetic() -> SlidesConfig:
    """The model that ships under this name: a small U-Net on synthetic Sentinel-2 hills alone.

    Make its set with `python -m training.data.slide_scenery -o FOLDER --seed 1 --regions 30,6,10`.
    """
    return new_config(
        SlidesConfig,
        recipe="landslide_s2_synthetic",
        network="unet_tiny",
        steps=800,
        batch=8,
        lr=3e-3,
        best="f1",
        dropout=0.1,
        lift_m=3000.0,
        positive_weight=8.0,
    )


def landslide_rgb() -> SlidesConfig:
    """The first stage of the model that ships under this name: FPN on ImageNet, RGB of 1 m.

    Make its set with `python -m training.data.slide_scenery_rgb -o FOLDER --regions 60,6,8`. The
    second stage has real chips in the set: `--set init=FIRST --set steps=45 --set lr=1.5e-3
    --set checks=1 --set best=`.
    """
    return new_config(
        SlidesConfig,
        recipe="landslide_rgb",
        network="efficientnet_fpn_small",
        init="official:",
        steps=350,
        batch=8,
        lr=2e-3,
        encoder_lr=0.3,
        checks=2,
        best="f1",
        dropout=0.1,
        crop_px=192,
        zoom=1.5,
        recolour=1.0,
        positive_weight=5.0,
    )


def smart_transfer(width: int) -> TransferConfig:
    """Smart Transfer (arXiv:2604.02627) on a frozen encoder.

    As published: AdamW at a constant rate, batches of 32, 10 epochs. `small` has a decoder of 32
    channels and few steps, for 2 cores. `python -m training.smart_transfer` runs the protocols.
    """
    published = width == 256
    return new_config(
        TransferConfig,
        recipe="smart_transfer" if published else "smart_transfer_small",
        network=f"transfer_{width}",
        epochs=10 if published else 0,
        steps=80,
        batch=32 if published else 16,
        lr=3e-4 if published else 2e-3,
        weight_decay=1e-4,
        shape="constant" if published else "one_cycle",
        ema=0.0,
        checks=1,
        transfer_loss=TransferLoss(),
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    **{
        f"fc_{mode}_{width}": partial(fc_siam, mode, width)
        for mode in ("ef", "siam_conc", "siam_diff")
        for width in _SEGMENTATION
    },
    "synthetic_small": synthetic_small,
    "fc_siam_diff_turkiye": fc_siam_diff_turkiye,
    "synthetic_lite0": synthetic_lite0,
    "lite0_turkiye": lite0_turkiye,
    "epfl_fc_ef_large": partial(
        epfl, "ef", objective="dice", lr=4e-5, weight_decay=7e-5, dropout=0.01
    ),
    "epfl_fc_siam_conc_large": partial(
        epfl, "siam_conc", objective="iou", lr=5e-4, weight_decay=2e-4, dropout=0.02
    ),
    "epfl_fc_siam_diff_large": partial(
        epfl,
        "siam_diff",
        objective="dice",
        lr=3e-4,
        weight_decay=2e-3,
        dropout=0.05,
        accumulate=2,
    ),
    "pretrain_siam_diff_small": pretrain_siam_diff_small,
    "qmf_384": qmf_384,
    "qif_tiny": partial(building_tiny, "qif"),
    "qmf_tiny": partial(building_tiny, "qmf"),
    "hazard_mlp": hazard_mlp,
    **{f"slides_{network}": partial(slides, network) for network in LANDSLIDE_NETWORKS},
    "landslide_s2_synthetic": landslide_s2_synthetic,
    "landslide_rgb": landslide_rgb,
    "smart_transfer": partial(smart_transfer, 256),
    "smart_transfer_small": partial(smart_transfer, 32),
}


def recipe(name: str) -> TrainConfig:
    """The configuration of a recipe.

    Raises:
        ConfigError: if no recipe has that name.
    """
    if name not in RECIPES:
        raise ConfigError("unknown recipe", expected=f"one of {', '.join(RECIPES)}", got=repr(name))
    return RECIPES[name]()
