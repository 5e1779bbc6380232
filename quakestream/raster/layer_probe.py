"""Reads the headers of the files that hold a scene's layers, before their pixels."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from quakestream.domain import LayerFile, Scene, SceneLayer
from quakestream.domain.layers import layer_notes
from quakestream.errors import SceneError, StorageError
from quakestream.raster.bands import band_wave
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import counted, restated
from quakestream.raster.probe import check_place, ground_gsd_m
from quakestream.storage import StorageOptions, fingerprint
from quakestream.storage.object_stores import in_order


def described_bands(href: str, options: StorageOptions) -> list[tuple[str, float | None]]:
    """Description and centre wavelength of each band of a file.

    Raises:
        InputError: if it cannot be opened.
    """
    with open_dataset(href, options) as dataset:
        texts = enumerate(dataset.descriptions, start=1)
        return [(text or "", band_wave(dataset, n)) for n, text in texts]


def probe_layers(scene: Scene, options: StorageOptions) -> Scene:
    """The scene with what the files of its layers say: place, version, and meaning of counts.

    Its own place is that of the layer with the finest pixels.

    Raises:
        SceneError: if a file cannot be opened, does not lie on Earth, is rotated, or nothing
            says what its counts mean.
        StorageError: if one does not exist.
    """
    opened: dict[str, tuple[LayerFile, _Header]] = {}

    def known(layer: SceneLayer) -> SceneLayer:
        href = layer.file.href
        if href not in opened:
            opened[href] = _reachable(layer.file, options)
        file, header = opened[href]
        return header.meaning(replace(layer, file=file))

    layers = tuple(layer if layer.is_terrain else known(layer) for layer in scene.layers)
    mask = None if scene.mask is None else known(scene.mask)
    finest = min(
        (layer for layer in layers if not layer.is_terrain), key=lambda one: one.file.gsd_m or 0.0
    )
    tokens = [layer.token for layer in (*layers, *([] if mask is None else [mask]))]
    return replace(
        scene,
        href=finest.file.href,
        alternates=(),
        etag=hashlib.sha256(repr(tokens).encode()).hexdigest()[:32],
        crs_wkt=finest.file.crs_wkt,
        transform=finest.file.transform,
        shape=finest.file.shape,
        gsd_m=finest.file.gsd_m,
        layers=layers,
        mask=mask,
        notes=layer_notes(layers, mask),
    )


class _Header:
    """What a file says of its counts."""

    def __init__(self, dataset: Any) -> None:
        self.count, self.dtypes = dataset.count, dataset.dtypes
        self.scales, self.offsets = dataset.scales, dataset.offsets
        self.nodatavals, self.masks = dataset.nodatavals, dataset.mask_flag_enums

    def meaning(self, layer: SceneLayer) -> SceneLayer:
        """The layer with scale, offset and nodata.

        Raises:
            SceneError: if the file has no such band, or nothing says what its counts mean.
        """
        n, href = layer.band - 1, layer.file.href
        if n >= self.count:
            got = counted(self.count, "band")
            raise SceneError("file has fewer bands than its item", href, str(layer.band), got)
        if MaskFlags.per_dataset in self.masks[n] and MaskFlags.alpha not in self.masks[n]:
            remedy = "write it anew with nodata: gdal_translate -a_nodata"
            raise SceneError("file has a mask beside its bands", href, "nodata", remedy=remedy)
        dtype = self.dtypes[n]
        if np.dtype(dtype).kind not in "uif":
            raise SceneError("image has another dtype", href, "integers or floats", dtype)
        scale, offset = layer.scale, layer.offset
        if scale is None or offset is None:
            scale, offset = self.scales[n], self.offsets[n]
            if (scale, offset) == (1.0, 0.0) and np.dtype(dtype).kind != "f":
                raise SceneError(
                    f"nothing says what the counts of band {layer.source} mean",
                    href,
                    expected="raster:scale and raster:offset in the item, or a scale in the file",
                    got=f"{dtype} without scale",
                    remedy="add them, or name assets of reflectance under imagery.asset",
                )
        own = self.nodatavals[n]
        nodata = (*layer.nodata, *(() if own is None else (float(own),)))
        usable = tuple(dict.fromkeys(value for value in nodata if _can_be(value, dtype)))
        return replace(layer, scale=float(scale), offset=float(offset), nodata=usable)


def _can_be(value: float, dtype: str) -> bool:
    """True if a count of a dtype can have a value; NaN is found without being named."""
    if not np.isfinite(value):
        return False
    if np.dtype(dtype).kind == "f":
        return True
    limits = np.iinfo(dtype)
    return bool(limits.min <= value <= limits.max and value == int(value))


def _reachable(file: LayerFile, options: StorageOptions) -> tuple[LayerFile, _Header]:
    """A file's header from the first of its places that can be opened."""
    first, *others = in_order([file.href, *file.alternates], options)
    try:
        return _header(replace(file, href=first, alternates=()), options)
    except (SceneError, StorageError):
        if not others:
            raise
    return _reachable(replace(file, href=others[0], alternates=tuple(others[1:])), options)


def _header(file: LayerFile, options: StorageOptions) -> tuple[LayerFile, _Header]:
    """A file with its place and version, and what it says of its counts.

    Raises:
        SceneError: if it cannot be opened at any of its places, or has no usable georeference.
        StorageError: if it does not exist.
    """
    etag = fingerprint(file.href, options)
    with open_dataset(file.href, options) as dataset:
        try:
            check_place(dataset, file.href)
            known = replace(
                file,
                etag=etag,
                crs_wkt=dataset.crs.to_wkt(),
                transform=dataset.transform,
                shape=(dataset.height, dataset.width),
                gsd_m=ground_gsd_m(dataset, file.href),
                dtype=dataset.dtypes[0],
            )
            return known, _Header(dataset)
        except RasterioError as error:
            raise restated(SceneError, "cannot read header", file.href, error) from error
