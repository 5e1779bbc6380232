"""Landslides per pixel, from chips with any bands in the layout of Landslide4Sense."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.checkpoints import with_adapters
from training.config import SlidesConfig
from training.data.slide_augment import coarsened, training_crop
from training.data.slide_chips import Part, SlideChips, open_chips_of
from training.lessons.base import Figures, Lesson, TrainingBatch
from training.lessons.grading import EpochOrder
from training.losses import bce_loss, focal_loss, lovasz_hinge
from training.metrics.scores import ScoreCounts
from training.networks import NetworkInputs, build_landslide_network
from training.seeds import rng
from training.worker_group import Share, gather

F32 = NDArray[np.float32]
AT_ONCE = 8
"""Chips that are evaluated in one call."""
_SUBSET, _CROPS, _LIFTS = 11, 12, 13
"""Streams of random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandScale:
    """Turns stored values into z-scores by the statistics of the training chips."""

    mean_B: NDArray[np.float64]
    std_B: NDArray[np.float64]
    positive_share: float
    """Share of landslide pixels in the training chips."""

    @classmethod
    def of(cls, chips: SlideChips) -> "BandScale":
        """Statistics of all finite values, recomputed and checked.

        Raises:
            RequestError: if a band has no finite value or no spread.
        """
        bands = len(chips.bands)
        count_B, sum_B, square_B = np.zeros(bands), np.zeros(bands), np.zeros(bands)
        slid, pixels = 0, 0
        for image_NBYX, mask_NYX in chips.batches():
            known = np.isfinite(image_NBYX)
            values = np.where(known, image_NBYX, 0.0).astype(np.float64)
            count_B += known.sum(axis=(0, 2, 3))
            sum_B += values.sum(axis=(0, 2, 3))
            square_B += (values**2).sum(axis=(0, 2, 3))
            slid, pixels = slid + int(mask_NYX.sum()), pixels + mask_NYX.size
        mean_B = sum_B / np.maximum(count_B, 1)
        std_B = np.sqrt(np.maximum(square_B / np.maximum(count_B, 1) - mean_B**2, 0.0))
        flat = [b for b, s, n in zip(chips.bands, std_B, count_B, strict=True) if not (s > 0 < n)]
        if flat:
            raise RequestError(
                f"no spread in band {', '.join(flat)}",
                str(chips.root),
                remedy="leave the band out with --set bands=…",
            )
        scale = cls(mean_B=mean_B, std_B=std_B, positive_share=slid / max(pixels, 1))
        scale.check(chips)
        return scale

    def check(self, chips: SlideChips) -> None:
        """Checks on the first chips that z-scores are neither shifted nor stretched.

        Statistics that belong to other files, such as the published ones, are off by whole units.

        Raises:
            RequestError: if a band's median lies ten deviations from 0.
        """
        image_NBYX, _ = chips.read(range(min(len(chips), 64)))
        middle_B = np.nanmedian(np.where(np.isfinite(image_NBYX), image_NBYX, np.nan), (0, 2, 3))
        off = np.abs(middle_B - self.mean_B) / self.std_B
        if not (off < 10).all():
            band = chips.bands[int(np.nanargmax(off))]
            raise RequestError(
                f"statistics of band {band} do not fit the chips",
                str(chips.root),
                expected=f"a median near {self.mean_B[chips.bands.index(band)]:.4g}",
                got=f"{middle_B[chips.bands.index(band)]:.4g}",
            )

    def lifted(self, bands: Sequence[str], lift: float) -> "BandScale":
        """The scale when up to `lift` stored units, evenly drawn, are added to the elevation."""
        mean_B, std_B = self.mean_B.copy(), self.std_B.copy()
        if lift and "elevation" in bands:
            place = list(bands).index("elevation")
            mean_B[place] += lift / 2
            std_B[place] = np.hypot(std_B[place], lift / 12**0.5)
        return BandScale(mean_B=mean_B, std_B=std_B, positive_share=self.positive_share)

    def __call__(self, image_NBYX: F32) -> F32:
        """z-scores; values that are not finite become the training mean, which is 0."""
        z = (image_NBYX - self.mean_B[:, None, None]) / self.std_B[:, None, None]
        return np.where(np.isfinite(z), z, 0.0).astype(np.float32)


class SlidesLesson:
    """Trains a pixel network on landslide chips.

    Args:
        config: names the set, its bands and the share of its chips.
        chips: training chips; None: those of the configuration.
        scale: of the bands, such as that of the set on which the network was trained before;
            None: the statistics of the training chips.

    Raises:
        RequestError: if the set lacks chips or bands.
    """

    streams = False

    def __init__(
        self,
        config: SlidesConfig,
        *,
        chips: SlideChips | None = None,
        scale: BandScale | None = None,
    ) -> None:
        self._config = config
        if chips is None:
            every = open_chips_of(Path(config.source), "train", config.view.bands)
            chips = every.only(_subset(len(every), config))
        self.train_chips = chips
        self._lift = self._stored_lift()
        self.scale = scale or BandScale.of(chips).lifted(chips.bands, self._lift)
        self._order = EpochOrder(np.arange(len(self.train_chips)), config)

    @property
    def coarsen(self) -> int:
        """Pixels that are averaged to one, per side."""
        return self._config.view.coarsen

    @property
    def inputs(self) -> NetworkInputs:
        chips, config = self.train_chips, self._config
        return NetworkInputs(
            bands=len(chips.bands),
            band_names=chips.bands,
            crop_px=config.view.crop_px,
            gsd_m=chips.info.gsd_m,
        )

    @property
    def examples(self) -> int:
        return len(self.train_chips)

    def part(self, part: Part, root: Path | None = None) -> SlideChips:
        """The chips of a part of the set, or of another set with the same bands."""
        return open_chips_of(root or self.train_chips.root, part, self.train_chips.bands)

    def facts(self) -> dict[str, Any]:
        info = self.train_chips.info
        place = [info.bands.index(b) for b in self.train_chips.bands]
        factors = [info.physical_per_stored[i] for i in place] if info.physical_per_stored else []
        return {
            "bands": list(self.train_chips.bands),
            "mean": [float(v) for v in self.scale.mean_B],
            "std": [float(v) for v in self.scale.std_B],
            "physical_per_stored": factors,
            "gsd_m": info.gsd_m,
            "dtype": info.dtype,
            "data": info.description,
            "licence": info.licence,
            "chips": len(self.train_chips),
            "positive_share": self.scale.positive_share,
        }

    def network(self) -> nn.Module:
        config = self._config
        network = build_landslide_network(config.network, self.inputs, dropout=config.dropout)
        return with_adapters(network, config)

    def batch(self, number: int, rank: int, world: int) -> TrainingBatch:
        share = Share(total=self._config.schedule.global_batch, rank=rank, world=world)
        image_NBYX, mask_NYX = self.train_chips.read(self._order.rows(number, share))
        crops = [
            training_crop(
                image_NBYX[i],
                mask_NYX[i],
                self._config.view,
                rng(self._config.run.seed, _CROPS, number, place),
            )
            for i, place in enumerate(share.places)
        ]
        cropped_NBYX = coarsened(np.stack([c for c, _ in crops]), self._config.view.coarsen)
        self._add_lift(cropped_NBYX, number, share)
        tensors = {
            "image_NBYX": torch.from_numpy(self.scale(cropped_NBYX)),
            "slid_NYX": torch.from_numpy(np.stack([m for _, m in crops])),
        }
        return TrainingBatch(tensors=tensors, share=share)

    def _stored_lift(self) -> float:
        """The largest lift in stored units; 0 for a set without elevation, or of unknown units."""
        info, bands = self.train_chips.info, self.train_chips.bands
        if not self._config.view.lift_m or "elevation" not in bands or not info.physical_per_stored:
            return 0.0
        factor = info.physical_per_stored[info.bands.index("elevation")]
        return self._config.view.lift_m / factor

    def _add_lift(self, image_NBYX: F32, number: int, share: Share) -> None:
        """Lifts the elevation of each crop, in place."""
        if not self._lift:
            return
        place = self.train_chips.bands.index("elevation")
        for i, n in enumerate(share.places):
            height = rng(self._config.run.seed, _LIFTS, number, n).uniform(0.0, self._lift)
            image_NBYX[i, place] += np.float32(height)

    def loss(self, network: nn.Module, batch: TrainingBatch, number: int) -> Tensor:
        logits_NYX = gather(network(batch["image_NBYX"]).float()[:, 0], batch.share)
        return self.pixel_loss(logits_NYX, gather(batch["slid_NYX"], batch.share))

    def pixel_loss(self, logits_NYX: Tensor, slid_NYX: Tensor) -> Tensor:
        """The configuration's loss on a whole batch."""
        settings = self._config.slide_loss
        name = settings.objective
        share = self.scale.positive_share
        balanced = (1.0 - share) / max(share, 1e-6)
        weight = settings.positive_weight or balanced
        if name in ("bce", "bce_lovasz"):
            first = bce_loss(logits_NYX, slid_NYX, positive_weight=weight)
        elif name == "focal_factors":
            first = focal_loss(logits_NYX, slid_NYX, gamma=settings.gamma, norm="factors")
        else:
            first = focal_loss(
                logits_NYX,
                slid_NYX,
                alpha=settings.alpha,
                gamma=settings.gamma,
                norm="weights" if name == "focal_weights" else "mean",
            )
        if not name.endswith("lovasz"):
            return first
        part = settings.lovasz_share
        return (1 - part) * first + part * lovasz_hinge(logits_NYX, slid_NYX)

    def judge(self, network: nn.Module) -> Figures:
        counts = ScoreCounts()
        for logits_NYX, mask_NYX in self.scored(network, "validation"):
            counts += ScoreCounts.of(expit(logits_NYX), mask_NYX)
        best = counts.best_threshold()
        return {
            **counts.figures_at(self._config.threshold),
            **counts.ranking(),
            "best_threshold": best,
            "best_f1": counts.figures_at(best)["f1"],
        }

    def scored(
        self, network: nn.Module, part: Part, *, root: Path | None = None
    ) -> Iterator[tuple[F32, NDArray[np.uint8]]]:
        """Logits (N, y, x) and masks of a part, batch by batch.

        Args:
            network: in evaluation mode.
            part: part of the set.
            root: another set with the same bands; its values are scaled by this set's statistics.
        """
        for image_NBYX, mask_NYX in self.part(part, root).batches(AT_ONCE):
            z_NBYX = self.scale(coarsened(image_NBYX, self._config.view.coarsen))
            with torch.inference_mode():
                logits = network(torch.from_numpy(z_NBYX)).float()[:, 0]
            yield np.asarray(logits.cpu().numpy(), np.float32), mask_NYX


def open_slides(config: SlidesConfig) -> SlidesLesson:
    """Opens the set of a configuration.

    Raises:
        RequestError: if it is missing or cannot be used.
    """
    if not config.source:
        raise RequestError(
            "no set of landslide chips named",
            config.recipe,
            remedy="add --set source=FOLDER; python -m training.data.slide_scenery generates one",
        )
    return SlidesLesson(config)


def _subset(count: int, config: SlidesConfig) -> NDArray[np.int64]:
    """Rows of the training chips that are used, in order."""
    share = config.view.label_share
    if not 0 < share <= 1:
        raise RequestError(
            "wrong share of labels",
            "label_share",
            expected="more than 0, at most 1",
            got=str(share),
        )
    kept = max(1, round(share * count))
    chosen = rng(config.run.seed, _SUBSET).permutation(count)[:kept]
    return np.sort(chosen)


_: type[Lesson] = SlidesLesson
