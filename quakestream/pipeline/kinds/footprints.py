"""What kinds that judge footprints share: sums per footprint, their rows, their products."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.domain import Quality, Shift
from quakestream.outputs.layout import COMMITS
from quakestream.pipeline.work.results import UnitResult
from quakestream.storage import Store

if TYPE_CHECKING:
    from quakestream.pipeline.result.context import KindProducts, RunContext


@dataclass(slots=True)
class FootprintSums:
    """Integer sums of a unit's F footprints that need no engine."""

    pixels_FQ: NDArray[np.int64]
    change_F: NDArray[np.int64]
    shift_F: list[Shift]
    """Shift of the crop, or of the window that holds most of a footprint."""
    shift_pixels_F: NDArray[np.int64]
    """Pixels of the footprint that lie in that window or crop."""
    failed_F: NDArray[np.bool_]
    """True for footprints with a part in a window or crop that could not be read."""
    quality_Q: NDArray[np.int64]

    @classmethod
    def empty(cls, footprints: int) -> Self:
        return cls(
            pixels_FQ=np.zeros((footprints, len(Quality)), np.int64),
            change_F=np.zeros(footprints, np.int64),
            shift_F=[Shift()] * footprints,
            shift_pixels_F=np.zeros(footprints, np.int64),
            failed_F=np.zeros(footprints, np.bool_),
            quality_Q=np.zeros(len(Quality), np.int64),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FootprintResult(UnitResult):
    """One unit of a kind that judges footprints."""

    sums: FootprintSums
    sum_FC: NDArray[np.int64]
    """Sum of class probability × 65535 over each footprint's valid pixels."""
    failure_F: tuple[str | None, ...]
    """`read_error` or `model_error` for footprints with a part in a failed window or crop."""


def failures_of(sums: FootprintSums, unscored: Iterable[int]) -> tuple[str | None, ...]:
    """Why each footprint has no complete sums; None for most.

    Args:
        unscored: footprints that the engine failed on.
    """
    failure_F: list[str | None] = [("read_error" if bad else None) for bad in sums.failed_F]
    for footprint in unscored:
        failure_F[footprint] = failure_F[footprint] or "model_error"
    return tuple(failure_F)


class FootprintKind:
    """Base of kinds that judge footprints: they commit, reduce and publish alike."""

    commits = COMMITS
    key = ""

    def rows(self, results: list[FootprintResult]) -> pa.Table:
        """Rows to commit, a row per unit and footprint, of all units at once."""
        sizes = [len(r.task.building_F) for r in results]
        gsd_N = np.repeat([r.task.cell.gsd_m for r in results], sizes)
        pixels_NQ = np.concatenate([r.sums.pixels_FQ for r in results])
        sum_NC = np.concatenate([r.sum_FC for r in results])
        shift_N = [shift for r in results for shift in r.sums.shift_F]
        columns: dict[str, Any] = {
            "cell": np.repeat(np.arange(len(results), dtype=np.int32), sizes),
            "building_id": pa.array([b for r in results for b in r.task.building_F], pa.string()),
        }
        columns |= {f"pixels_{q.name.lower()}": pixels_NQ[:, q] for q in Quality}
        columns |= {f"sum_{c}": sum_NC[:, c] for c in range(sum_NC.shape[1])}
        metres = [s.metres(gsd) for s, gsd in zip(shift_N, gsd_N.tolist(), strict=True)]
        columns |= {
            "change": np.concatenate([r.sums.change_F for r in results]),
            "shift_m": np.array(metres, np.float32),
            "shift_quality": np.array([s.quality for s in shift_N], np.float32),
            "shift_pixels": np.concatenate([r.sums.shift_pixels_F for r in results]),
            "failure": pa.array([f for r in results for f in r.failure_F], pa.string()),
        }
        return pa.table(columns)

    def publish(
        self, store: Store, commits: Iterable[str], keys: set[str], context: "RunContext"
    ) -> "KindProducts":
        from quakestream.pipeline.result.buildings import building_products  # the driver's

        return building_products(store, commits, keys, context)
