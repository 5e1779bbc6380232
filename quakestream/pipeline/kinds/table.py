"""The table of kinds: which kind scores a bundle's task, and which products ask for a kind."""

from collections.abc import Mapping

from quakestream.pipeline.kinds.base import Kind
from quakestream.pipeline.kinds.crops import CropKind
from quakestream.pipeline.kinds.landslides import LandslideKind
from quakestream.pipeline.kinds.rasters import RasterKind
from quakestream.pipeline.kinds.windows import WindowKind

DAMAGE_KINDS: Mapping[str, Kind] = {
    task: kind for kind in (WindowKind(), CropKind()) for task in kind.tasks
}
"""Kinds that give a verdict per footprint, by the task of `models.damage`."""
LANDSLIDE_KINDS: Mapping[str, LandslideKind] = {"landslide": LandslideKind()}
"""Kinds that find landslides, by the task of `models.landslide`."""
PRODUCT_KINDS: Mapping[str, Kind] = {"scores": RasterKind()}
"""Kinds that a product of `outputs` asks for; they score with the bundle of `models.damage`."""
