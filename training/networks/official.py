"""Official MetaFormer weights into a network of ours: by name, by shape, or not at all.

What does not belong (head, metadata encoders, derived indices) is dropped, relative biases are
resized to the crop's grid, and everything else must fit. A file is never run: pickled code in
it is refused.
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
from training.networks.metaformer import MetaFormer

Resize = Literal["official", "exact"]
"""`official` resizes as the published loader does: row 0 apart, the rest as the grid of offsets,
which is off by one against the index the network reads the table with. `exact` resizes the rows
that the index reads, corner onto corner: the bias of no offset, and row 0 with all extra tokens,
keep their values."""

_WRAPPERS = ("model", "state_dict_ema")  # first found wins, else the file is the weights
_STEM = "stage_0.0.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of every weight, by name."""

    loaded: tuple[str, ...]
    resized: tuple[str, ...]
    """Of those loaded: fitted to another grid or number of bands."""
    dropped: tuple[str, ...]
    """In the file, left out on purpose."""
    missing: tuple[str, ...]
    """In the network, not in the file: head and metadata encoders, which stay untrained."""
    unexpected: tuple[str, ...]
    """In the file, known to nobody; always empty, since such a file is refused."""


def load_official(network: MetaFormer, path: Path, *, resize: Resize = "official") -> ImportReport:
    """Loads official weights; a network that is refused is left as it was.

    Args:
        network: QuakeImageFormer or QuakeMetaFormer of the size of the file.
        path: a `.pth` with the weights under `model`, `state_dict_ema`, or bare.
        resize: how relative biases get to another crop size.

    Raises:
        RequestError: if the file cannot be read without running it, or is of another network.
    """
    weights, report = fit_official(network, read_official(path), resize=resize, source=str(path))
    network.load_state_dict(weights, strict=False)
    return report


def read_official(path: Path) -> dict[str, Tensor]:
    """The weights by name, unwrapped.

    Raises:
        RequestError: if the file holds anything but plain values and tensors, or no weights.
    """
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, EOFError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(
            f"{path}: cannot be read as weights alone ({reason}); "
            "where you trust it, save its 'model' entry by itself"
        ) from error
    if isinstance(raw, Mapping):
        raw = next((raw[key] for key in _WRAPPERS if key in raw), raw)
    if not _are_weights(raw):
        raise RequestError(
            f"{path}: expected weights by name, bare or under {' or '.join(_WRAPPERS)}, "
            f"got {type(raw).__name__}"
        )
    return dict(raw)


def fit_official(
    network: nn.Module, weights: Mapping[str, Tensor], *, resize: Resize, source: str = "weights"
) -> tuple[dict[str, Tensor], ImportReport]:
    """The weights that go into the network, in its shapes, and the report.

    Raises:
        RequestError: if any is missing, unknown or of another shape, or not finite.
    """
    wanted = network.state_dict()
    kept = {name: value for name, value in weights.items() if not _is_dropped(name)}
    fitted = {
        name: _fitted(name, value, wanted[name], resize)
        for name, value in kept.items()
        if name in wanted
    }
    report = ImportReport(
        loaded=tuple(fitted),
        resized=tuple(name for name, value in fitted.items() if value is not kept[name]),
        dropped=tuple(name for name in weights if name not in kept),
        missing=tuple(name for name in wanted if name not in kept),
        unexpected=tuple(name for name in kept if name not in wanted),
    )
    problems = _problems(report, fitted, wanted)
    if problems:
        raise RequestError(
            f"{source}: not the weights of this MetaFormer ({len(fitted)} of {len(wanted)} names "
            f"found): {'; '.join(problems)}; use the file of the same size"
        )
    return fitted, report


def resize_bias(table: Tensor, rows: int, resize: Resize) -> Tensor:
    """A bias table of so many rows, shape (rows, heads); itself when it has them already.

    Both numbers of rows must be those of a square grid: (2·side - 1)² + 1.
    """
    if len(table) == rows:
        return table
    if resize == "official":
        grid = _resize_grid(table[1:], rows - 1, align_corners=False)
        return torch.cat([table[:1], grid])
    grid = _resize_grid(table[:-1], rows - 1, align_corners=True)
    return torch.cat([grid, table[-1:]])


def _resize_grid(rows_RH: Tensor, rows: int, *, align_corners: bool) -> Tensor:
    """Rows read as a square grid, resampled to another square grid."""
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
    """The weight in the wanted shape where a rule says how, else as it is."""
    if name.endswith("relative_position_bias_table") and _is_grid(value):
        return resize_bias(value, len(wanted), resize)
    if name == _STEM and value.ndim == 4 and wanted.shape[1] % value.shape[1] == 0:
        # Several images one upon the other: each gets the filters, their sum keeps its scale.
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
