"""The manifest of a bundle, as values."""

from dataclasses import dataclass, field
from typing import Any, Literal

from quakestream.domain.calibration import Calibration
from quakestream.domain.layers import REFLECTANCE, BandNeed
from quakestream.domain.spectrum import TERRAIN_BANDS

Task = Literal["segmentation", "building", "landslide", "hazard"]
PIXEL_TASKS = ("segmentation", "landslide")
"""Tasks whose graphs score the pixels of windows."""
BUILDING_TASKS = ("segmentation", "building")
"""Tasks that give each building a score."""
Normalisation = Literal["fixed", "per_scene"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleClass:
    """One class of a damage scale, mildest first, or of another task.

    Classes that are no damage to buildings, such as `landslide`, have a label alone.
    """

    index: int
    label: str
    xbd: Literal["no", "minor", "major", "destroyed"] | None = None
    ems98: tuple[int, ...] = ()
    """EMS-98 grades of this class, 0 (no damage) to 5."""
    copernicus: Literal["Destroyed", "Damaged", "Possibly damaged", "No visible damage"] | None = (
        None
    )

    @property
    def grade(self) -> Literal["no", "minor", "major", "destroyed", "ignored"]:
        """The xBD grade; `ignored` for a class that is no damage to buildings."""
        return self.xbd or "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Cumulative probabilities from which a severe class is declared."""

    high_precision: float
    balanced: float
    high_recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardInput:
    """One hazard value that a model takes."""

    name: str
    unit: str
    mean: float
    std: float
    missing: Literal["mean", "zero", "mask"] = "mean"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSpec:
    """Content of `bundle.json`.

    The inputs of the graph are `post` (and `pre`), (N, band, y, x), and for `per_scene`
    normalisation `post_mean_NB, post_std_NB` (`pre_mean_NB, pre_std_NB`), float32. The output
    `logits` is float32. Images are uint8, the counts of red, green and blue, or float32, physical
    values: reflectance, slope in degrees, elevation in metres. There, pixels without data are 0.
    K is the number of classes, or 1 for the sigmoid of the second of two.

    `segmentation`, `landslide`: (N, K, y, x), a score per pixel of a window.
    `building`: (N, K), a score per crop around a footprint. With `hazard` the graph also takes
    `hazard`, float32 (N, M), in the units named here, NaN where a value is missing. The graph
    decides how a missing value counts.
    `hazard`: (N, K) from `hazard` alone, without epochs; `window_px` is 0.
    """

    name: str
    version: str
    task: Task
    epochs: tuple[str, ...] = ()
    """Images that the graph takes; these fields of images stay empty or 0 for `hazard`."""
    bands: tuple[str, ...] = ()
    """Common names of bands, and of terrain channels (`slope`, `elevation`)."""
    band_substitutes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Bands that may stand for another where an image lacks it, the best first."""
    gsd_m: float = 0.0
    window_px: int = 0
    """Side of the square that the graph takes: a window, or a crop for `building`."""
    halo_px: int = 0
    """Margin of the window whose scores are dropped."""
    context_m: float = 0.0
    """Ground shown by a crop around a footprint (`building`), else 0."""
    dtype: str
    normalisation: Normalisation
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scale: float = 1.0
    hazard: tuple[HazardInput, ...] = ()
    hazard_groups: tuple[int, ...] = ()
    """Sizes of the groups of `hazard`, in order; empty for one group."""
    classes: tuple[ScaleClass, ...] = ()
    prior: tuple[float, ...] = ()
    """Class shares that the probabilities assume; empty for equal shares."""
    outputs: Literal["logits", "probabilities"] = "logits"
    deviation: bool = False
    """True if `logits` has one more output, the last: the standard deviation of the probability
    of the last class (`landslide`)."""
    temperature: float = 1.0
    thresholds: Thresholds = Thresholds(high_precision=0.8, balanced=0.5, high_recall=0.2)
    """For the scores of an uncalibrated bundle, and of pixels."""
    calibration: Calibration | None = None
    """Turns the scores of buildings into probabilities at any share of destroyed ones."""
    metrics: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def core_px(self) -> int:
        """Side of the core of a window, whose scores count."""
        return self.window_px - 2 * self.halo_px

    @property
    def scores_pixels(self) -> bool:
        """True where the graph scores the pixels of windows; else it scores crops or rows."""
        return self.task in PIXEL_TASKS

    @property
    def takes_reflectance(self) -> bool:
        """True where images hold physical values; else counts of red, green and blue."""
        return bool(self.epochs) and self.dtype == REFLECTANCE

    @property
    def terrain_bands(self) -> tuple[str, ...]:
        """Channels that come from the elevation model."""
        return tuple(band for band in self.bands if band in TERRAIN_BANDS)

    @property
    def band_need(self) -> BandNeed | None:
        """The bands of imagery; None for counts, whose scenes are found by `imagery.asset`."""
        if not self.takes_reflectance:
            return None
        return BandNeed(
            bands=tuple(band for band in self.bands if band not in TERRAIN_BANDS),
            substitutes=tuple((k, tuple(v)) for k, v in self.band_substitutes.items()),
            gsd_m=self.gsd_m,
        )

    @property
    def needs_pre(self) -> bool:
        return "pre" in self.epochs

    @property
    def adapted_to(self) -> str | None:
        """Id of the event that `quakestream adapt` made it for; None for other bundles."""
        event = self.training.get("adapted", {}).get("event")
        return None if event is None else str(event)

    @property
    def forced(self) -> bool:
        """True if `quakestream adapt --force` wrote it, not shown to be better than its parent."""
        return bool(self.training.get("adapted", {}).get("forced"))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(c.label for c in self.classes)
