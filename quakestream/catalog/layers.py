"""Finds the files that hold a bundle's bands among the assets of a STAC item.

One asset may hold all bands, or each band is an asset. Several assets may show one band: as COG
and as JPEG 2000, at 10, 20 and 60 m, and as a picture of 8 bits.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from quakestream.catalog.bands import band_fields, number_of
from quakestream.catalog.images import is_image
from quakestream.catalog.missions import Meaning, known_meaning, mission_of
from quakestream.domain import BandNeed, LayerFile, SceneLayer
from quakestream.domain.layers import MaskKind
from quakestream.domain.spectrum import band_of
from quakestream.errors import InputError
from quakestream.raster.layer_probe import described_bands
from quakestream.storage import StorageOptions

Document = Mapping[str, Any]
Places = Mapping[str, tuple[str, tuple[str, ...]]]
"""Href and alternates of each asset that has an href."""
_PICTURES = {"visual", "tci", "overview", "thumbnail", "preview", "rendered_preview", "tilejson"}
"""Keys and roles of assets that show bands as a picture of 8 bits."""
_MASKS: Mapping[str, MaskKind] = {"scl": "scl", "fmask": "fmask", "qa60": "qa60"}
_RESOLUTION = re.compile(r"[_-](\d+)m$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One band of one asset."""

    name: str
    """Common name; empty where nothing names the band."""
    asset: str
    file: LayerFile
    band: int
    meaning: Meaning
    gsd_m: float | None
    rank: int
    """0 for data, 1 for JPEG 2000 beside it, 2 for pictures of 8 bits."""

    def layer(self, name: str) -> SceneLayer:
        nodata = self.meaning.nodata
        return SceneLayer(
            name=name,
            file=self.file,
            band=self.band,
            source=self.name,
            scale=self.meaning.scale,
            offset=self.meaning.offset,
            nodata=() if nodata is None else (nodata,),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLayers:
    """The layers of an item that a bundle takes."""

    offered: tuple[str, ...]
    """Common names of all bands that the item offers."""
    missing: tuple[str, ...] = ()
    """Bands that the bundle takes and the item does not offer."""
    asset: str = ""
    """The asset of the first layer; empty where a band is missing."""
    layers: tuple[SceneLayer, ...] = ()
    mask: SceneLayer | None = None


def item_layers(
    item: Document,
    places: Places,
    need: BandNeed,
    only: Sequence[str],
    options: StorageOptions,
) -> ItemLayers:
    """The files that hold a bundle's bands.

    Where nothing in the item names a band that is missing, the descriptions in its files are read.

    Args:
        only: assets that may be used; empty: all.
    """
    mission = mission_of(item)
    allowed = {k: v for k, v in places.items() if not only or k in only}
    offers = [offer for key in sorted(allowed) for offer in _offers(item, key, allowed, mission)]
    if need.missing(offer.name for offer in offers):
        offers = _described(offers, mission, options)
    offered = tuple(dict.fromkeys(offer.name for offer in offers if offer.name))
    if missing := need.missing(offered):
        return ItemLayers(offered=offered, missing=missing)
    chosen = _chosen(offers, need)
    return ItemLayers(
        offered=offered,
        asset=chosen[0].asset,
        layers=tuple(o.layer(name) for o, name in zip(chosen, need.bands, strict=True)),
        mask=_mask(places),
    )


def _offers(item: Document, key: str, places: Places, mission: str) -> Iterator[Offer]:
    asset = item["assets"][key]
    href, alternates = places[key]
    if not _is_raster(asset, href):
        return
    bands = band_fields(asset, _of(item, "properties")) or [{}]
    for number, band in enumerate(bands, start=1):
        texts = [t for k in _TEXTS if isinstance(t := band.get(k), str)]
        if len(bands) == 1:
            texts += [key, str(asset.get("title") or "")]
        stated = Meaning(
            scale=_stated(band, asset, "scale"),
            offset=_stated(band, asset, "offset"),
            nodata=_stated(band, asset, "nodata"),
        )
        yield Offer(
            name=band_of(texts, _wave(band), mission),
            asset=key,
            file=LayerFile(href=href, alternates=alternates),
            band=number,
            meaning=known_meaning(item, mission, stated),
            gsd_m=_gsd_m(asset, band, key),
            rank=_rank(asset, key, href),
        )


_TEXTS = ("eo:common_name", "common_name", "name", "description")


def _described(offers: list[Offer], mission: str, options: StorageOptions) -> list[Offer]:
    """The offers, with the bands of assets that name none named by their files."""
    named = {offer.asset for offer in offers if offer.name}
    found = [offer for offer in offers if offer.asset in named]
    for first in {offer.asset: offer for offer in offers if offer.asset not in named}.values():
        with suppress(InputError):  # a file that cannot be opened names nothing
            for number, (text, um) in enumerate(described_bands(first.file.href, options), start=1):
                found.append(
                    Offer(
                        name=band_of([text], um, mission),
                        asset=first.asset,
                        file=first.file,
                        band=number,
                        meaning=first.meaning,
                        gsd_m=first.gsd_m,
                        rank=first.rank,
                    )
                )
    return found


def _chosen(offers: list[Offer], need: BandNeed) -> tuple[Offer, ...]:
    """An offer for each band: all of one asset where that has them, else the best of each."""

    def order(offer: Offer) -> tuple[Any, ...]:
        gsd_m = offer.gsd_m
        fine = gsd_m is None or need.gsd_m == 0 or gsd_m <= need.gsd_m * 1.001
        size = 0.0 if gsd_m is None else (-gsd_m if fine else gsd_m)
        return (offer.rank, not fine, size, offer.asset, offer.band)

    ordered = sorted(offers, key=order)
    of_asset: dict[str, dict[str, Offer]] = {}
    for offer in ordered:
        of_asset.setdefault(offer.asset, {}).setdefault(offer.name, offer)
    for bands in of_asset.values():
        if set(need.bands) <= bands.keys():
            return tuple(bands[name] for name in need.bands)
    best: dict[str, Offer] = {}
    for offer in ordered:
        best.setdefault(offer.name, offer)
    return tuple(
        next(best[name] for name in need.names_for(band) if name in best) for band in need.bands
    )


def _mask(places: Places) -> SceneLayer | None:
    """The mask of clouds; of several, that of the finest pixels, and a COG first."""
    found = []
    for key, (href, alternates) in places.items():
        resolution = _RESOLUTION.search(key)
        word = re.sub(r"[_-](\d+m|jp2)$", "", key.lower())
        if word in _MASKS:
            file = LayerFile(href=href, alternates=alternates)
            size = int(resolution[1]) if resolution else 0
            layer = SceneLayer(name=_MASKS[word], file=file, scale=1.0, offset=0.0)
            found.append((key.lower().endswith("jp2"), size, key, layer))
    return min(found, key=lambda one: one[:3])[3] if found else None


def _is_raster(asset: Document, href: str) -> bool:
    kind = str(asset.get("type") or "").lower()
    if kind:
        return kind.startswith("image/") or "geotiff" in kind
    return is_image(href)


def _rank(asset: Document, key: str, href: str) -> int:
    roles = asset.get("roles")
    words = {key.lower(), *(map(str, roles) if isinstance(roles, list) else ())}
    if words & _PICTURES or _data_type(asset) == "uint8":
        return 2
    jpeg_2000 = "jp2" in str(asset.get("type") or "").lower() or href.lower().endswith(".jp2")
    return 1 if jpeg_2000 else 0


def _data_type(asset: Document) -> str:
    for key in ("raster:bands", "bands"):
        bands = asset.get(key)
        if isinstance(bands, list) and bands and isinstance(bands[0], Mapping):
            return str(bands[0].get("data_type") or "")
    return str(asset.get("data_type") or "")


def _stated(band: Document, asset: Document, name: str) -> float | None:
    for holder in (band, asset):
        for key in (name, f"raster:{name}"):
            value = number_of(holder.get(key))
            if value is not None:
                return value
    return None


def _wave(band: Document) -> float | None:
    for key in ("eo:center_wavelength", "center_wavelength"):
        value = number_of(band.get(key))
        if value is not None:
            return value
    return None


def _gsd_m(asset: Document, band: Document, key: str) -> float | None:
    """Size of a pixel by the asset's words, else by its transform or its name."""
    stated = (asset.get("gsd"), band.get("gsd"), band.get("spatial_resolution"))
    for value in (*stated, asset.get("raster:spatial_resolution")):
        number = number_of(value)
        if number is not None and number > 0:
            return number
    transform = asset.get("proj:transform")
    if isinstance(transform, list) and transform:
        number = number_of(transform[0])
        if number is not None and number > 0.1:  # metres, not degrees
            return number
    named = _RESOLUTION.search(key)
    return float(named[1]) if named else None


def _of(item: Document, key: str) -> Document:
    value = item.get(key)
    return value if isinstance(value, Mapping) else {}
