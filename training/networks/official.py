"""Loads official MetaFormer weights, by name and by shape.

Head, metadata encoders and derived indices are dropped, relative biases are resized to the grid of
the crop, and all other weights must fit. A file with pickled code is refused, never run.
"""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from training.networks.importing import ImportReport, Layout, load_weights, read_weights
from training.networks.metaformer import MetaFormer

Resize = Literal["official", "exact"]
"""How a bias table is resized. `official` does as the published loader: row 0 stays, and the other
rows are resized as the grid of offsets, which is off by one against the index of the network.
`exact` resizes the rows that the index reads, corner onto corner, so that the bias of no offset and
row 0, the row of all extra tokens, keep their values."""

_WRAPPERS = ("model", "state_dict_ema")
"""Keys that may hold the weights, in order; without them the file itself is the weights."""
_STEM = "stage_0.0.weight"
_UNTRAINED = ("head.*", "*meta*")


def load_official(network: MetaFormer, path: Path, *, resize: Resize = "official") -> ImportReport:
    """Loads official weights; after an error the network is unchanged.

    Args:
        network: QuakeImageFormer or QuakeMetaFormer of the size of the file.
        path: a `.pth` with the weights under `model` or `state_dict_ema`, or at the top.
        resize: how relative biases are resized to another crop size.

    Raises:
        RequestError: if the file holds pickled code, or weights of another network.
    """

    def fit(own: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
        return _fitted(name, value, own[name], resize)

    layout = Layout(
        network="this MetaFormer",
        dropped=(*_UNTRAINED, "*relative_position_index", "point_coord"),
        may_lack=_UNTRAINED,
        fit=fit,
    )
    return load_weights(network, read_weights(path, wrappers=_WRAPPERS), layout, str(path))


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
