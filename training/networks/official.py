"""Loads official MetaFormer weights, by name and by shape.

Head, metadata encoders and derived indices are dropped, relative biases are resized to the grid of
the crop, and all other weights must fit. A file with pickled code is refused, never run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from torch import Tensor, nn

from quakestream.errors import RequestError
from training.foreign_errors import first_line
from training.networks.metaformer import MetaFormer

Resize = Literal["official", "exact"]
"""How a bias table is resized. `official` does as the published loader: row 0 stays, and the other
rows are resized as the grid of offsets, which is off by one against the index of the network.
`exact` resizes the rows that the index reads, corner onto corner, so that the bias of no offset and
row 0, the row of all extra tokens, keep their values."""

_WRAPPERS = ("model", "state_dict_ema")
"""Keys that may hold the weights, in order; without them the file itself is the weights."""
_STEM = "stage_0.0.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """Names of weights by what was done with them."""

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    """Loaded weights that were fitted to another grid or number of bands."""
    dropped: tuple[str, ...]
    """Weights of the file that are left out on purpose."""
    missing: tuple[str, ...]
    """Weights that the file lacks: head and metadata encoders, which stay untrained."""
    unexpected: tuple[str, ...]
    """Weights that the network lacks; always empty, because such a file is refused."""


def load_official(network: MetaFormer, path: Path, *, resize: Resize = "official") -> ImportReport:
    """Loads official weights; after an error the network is unchanged.

    Args:
        network: QuakeImageFormer or QuakeMetaFormer of the size of the file.
        path: a `.pth` with the weights under `model` or `state_dict_ema`, or at the top.
        resize: how relative biases are resized to another crop size.

    Raises:
        RequestError: if the file holds pickled code, or weights of another network.
    """
    weights, report = fit_official(network, read_official(path), resize=resize, source=str(path))
    network.load_state_dict(weights, strict=False)
    return report


def read_official(path: Path) -> dict[str, Tensor]:
    """Reads the weights by name.

    Raises:
        RequestError: if the file holds anything but plain values and tensors, or no weights.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, ValueError, OSError) as error:
        raise RequestError(
            f"cannot be read as weights alone ({first_line(error)})",
            str(path),
            remedy="if you trust the file, save its 'model' entry by itself",
        ) from error
    if isinstance(raw, Mapping):
        raw = next((raw[key] for key in _WRAPPERS if key in raw), raw)
    if not _are_weights(raw):
        raise RequestError(
            "no weights",
            str(path),
            expected=f"weights by name, at the top or under {' or '.join(_WRAPPERS)}",
            got=type(raw).__name__,
        )
    return dict(raw)


def fit_official(
    network: nn.Module, weights: Mapping[str, Tensor], *, resize: Resize, source: str = "weights"
) -> tuple[dict[str, Tensor], ImportReport]:
    """The weights in the shapes of the network, and the report.

    Raises:
        RequestError: if a weight is missing, unknown, of another shape, or not finite.
    """
    own = network.state_dict()
    usable = {name: value for name, value in weights.items() if not _is_dropped(name)}
    fitted = {
        name: _fitted(name, value, own[name], resize)
        for name, value in usable.items()
        if name in own
    }
    report = ImportReport(
        loaded=tuple(fitted),
        resized=tuple(name for name, value in fitted.items() if value is not usable[name]),
        dropped=tuple(name for name in weights if name not in usable),
        missing=tuple(name for name in own if name not in usable),
        unexpected=tuple(name for name in usable if name not in own),
    )
    problems = _problems(report, fitted, own)
    if problems:
        raise RequestError(
            f"not the weights of this MetaFormer ({len(fitted)} of {len(own)} names found): "
            f"{'; '.join(problems)}",
            source,
            remedy="use the file of the same size",
        )
    return fitted, report


def resize_bias(table: Tensor, rows: int, resize: Resize) -> Tensor:
    """Resizes a bias table to `rows`, shape (rows, heads).

    Both numbers of rows must belong to a square grid: (2·side - 1)² + 1.
    """
    if len(table) == rows:
        return table
    if resize == "official":
        grid = _resize_grid(table[1:], rows - 1, align_corners=False)
        return torch.cat([table[:1], grid])
    grid = _resize_grid(table[:-1], rows - 1, align_corners=True)
    return torch.cat([grid, table[-1:]])


def _resize_grid(rows_RH: Tensor, rows: int, *, align_corners: bool) -> Tensor:
    """Resamples rows, which form a square grid, to another square grid."""
    old, new = isqrt(len(rows_RH)), isqrt(rows)
    grid_1HYX = rows_RH.float().T.reshape(1, -1, old, old)
    grid_1HYX = nn.functional.interpolate(
        grid_1HYX, size=(new, new), mode="bicubic", align_corners=align_corners
    )
    return grid_1HYX[0].flatten(1).T.to(rows_RH.dtype)


def _is_dropped(name: str) -> bool:
    return (
        name.startswith("head.")
        or "meta" in name
        or name.endswith("relative_position_index")
        or name == "point_coord"
    )


def _may_be_missing(name: str) -> bool:
    return name.startswith("head.") or "meta" in name


def _fitted(name: str, value: Tensor, wanted: Tensor, resize: Resize) -> Tensor:
    """The weight in the wanted shape if a rule applies, else unchanged."""
    if name.endswith("relative_position_bias_table") and _is_grid(value):
        return resize_bias(value, len(wanted), resize)
    if name == _STEM and value.ndim == 4 and wanted.shape[1] % value.shape[1] == 0:
        # Each of several stacked images gets the filters; dividing keeps the scale of the sum.
        times = wanted.shape[1] // value.shape[1]
        return value if times == 1 else value.repeat(1, times, 1, 1) / times
    return value


def _is_grid(table: Tensor) -> bool:
    side = isqrt(max(len(table) - 1, 0)) if table.ndim == 2 else 0
    return side % 2 == 1 and side**2 + 1 == len(table)


def _are_weights(raw: Any) -> bool:
    return (
        isinstance(raw, Mapping)
        and bool(raw)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in raw.items())
    )


def _problems(
    report: ImportReport, fitted: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> list[str]:
    lost = [name for name in report.missing if not _may_be_missing(name)]
    shapes = [
        f"{name} (expected {tuple(wanted[name].shape)}, got {tuple(value.shape)})"
        for name, value in fitted.items()
        if value.shape != wanted[name].shape
    ]
    broken = [name for name, value in fitted.items() if not torch.isfinite(value).all()]
    kinds = {
        "missing": lost,
        "unexpected": report.unexpected,
        "other shape": shapes,
        "not finite": broken,
    }
    return [f"{kind} {_few(names)}" for kind, names in kinds.items() if names]


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
