"""`/predict` and `/bundles`: class probabilities of chips."""

import asyncio
import json
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, File, Form, UploadFile
from numpy.typing import NDArray
from shapely import GEOSException, Polygon

from quakestream.errors import RequestError
from serving.access import InContext, Reader
from serving.chips import read_chip
from serving.predictor import Chip

router = APIRouter(tags=["predict"])
SMALL_BYTES = 32_768
"""Chips up to this size are unpacked at once: a change of threads takes longer."""


@router.get("/bundles")
async def bundles(context: InContext, _: Reader) -> dict[str, Any]:
    """The bundles of /predict: what each takes and gives."""
    return {"bundles": list(await context.services.bundles())}


@router.post("/predict")
async def predict(
    context: InContext,
    _: Reader,
    bundle: Annotated[str, Form(max_length=200)] = "",
    post: Annotated[UploadFile | None, File(description="Chip after the event")] = None,
    pre: Annotated[UploadFile | None, File(description="Chip before the event")] = None,
    hazard: Annotated[
        str, Form(max_length=10_000, description="Hazard values as JSON, by name")
    ] = "",
    footprint: Annotated[
        str,
        Form(
            max_length=20_000,
            description="Outline of the building, JSON [[x, y], …] in pixels of the chip, "
            "for bundles that score pixels",
        ),
    ] = "",
    share: Annotated[
        float | None,
        Form(gt=0, lt=1, description="Share of destroyed buildings that `p` assumes"),
    ] = None,
) -> dict[str, Any]:
    """Scores one chip pair: PNG, JPEG, TIFF or NPY, 8-bit RGB, of the bundle's size and GSD.

    `p` is the calibrated probability of the most severe class where `share` of the buildings are
    destroyed. Chips of several requests are scored together; none depends on the others.
    """
    name = bundle or context.settings.bundles[0]
    if name not in context.settings.bundles:
        raise RequestError("no such bundle", "bundle", ", ".join(context.settings.bundles), name)
    context.services.check_room(name)
    most_px = context.settings.limits.chip_px
    images = {
        epoch: await _unpacked(upload, epoch, most_px)
        for epoch, upload in (("pre", pre), ("post", post))
        if upload is not None
    }
    chip = Chip(images=images, hazard=_hazard(hazard), footprint=_footprint(footprint), share=share)
    return asdict(await context.services.predict(name, chip))


async def _unpacked(upload: UploadFile, epoch: str, most_px: int) -> NDArray[np.uint8]:
    data = await upload.read()
    if len(data) <= SMALL_BYTES:
        return read_chip(data, epoch, most_px)
    return await asyncio.to_thread(read_chip, data, epoch, most_px)


def _footprint(text: str) -> Polygon | None:
    """The outline of a building in pixels.

    Raises:
        RequestError: it is no ring of finite positions that encloses a simple area.
    """
    if not text:
        return None
    how = "JSON such as [[10, 10], [40, 10], [40, 30]], pixels of the chip"
    try:
        outline = Polygon(json.loads(text))
    except (ValueError, TypeError, RecursionError, OverflowError, GEOSException):
        raise RequestError("not a footprint", "footprint", how) from None
    if not outline.is_valid or outline.area <= 0:
        raise RequestError("not a footprint", "footprint", how, "an outline without a simple area")
    return outline


def _hazard(text: str) -> dict[str, float]:
    """Hazard values by name.

    Raises:
        RequestError: it is no JSON object of numbers.
    """
    if not text:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    is_number = isinstance(values, dict) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values.values()
    )
    if not is_number:
        raise RequestError("not hazard values", "hazard", 'JSON such as {"pga_g": 0.4}')
    try:
        return {str(name): float(value) for name, value in values.items()}
    except OverflowError:
        raise RequestError("not hazard values", "hazard", "numbers of 64 bits") from None
