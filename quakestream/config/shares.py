"""`models.share`: the share of destroyed buildings that probabilities assume."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from quakestream.errors import ConfigError

AUTO: Literal["auto"] = "auto"
_EXPECTED = "auto, a number between 0 and 1, or {layer: NAME}"


class ShareLayer(BaseModel):
    """A raster of shares."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    layer: str = Field(min_length=1, description="Name of a raster of hazard.layers")


def _checked_share(value: Any) -> Any:
    """The value, if it is `auto`, a number above 0 and below 1, or a layer.

    Raises:
        ConfigError: if it is none of them.
    """
    if value == AUTO or isinstance(value, ShareLayer):
        return value
    if isinstance(value, dict):
        return _layer(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        remedy = _of_per_cent(value) if isinstance(value, str) else ""
        got = "nothing" if value is None else repr(value)[:60]
        raise ConfigError("wrong value", expected=_EXPECTED, got=got, remedy=remedy)
    share = float(value)
    if 0 < share < 1:
        return share
    remedy = "leave the key out, and the share is estimated"
    if share in (0, 1):
        remedy = f"no image could change that; {remedy}"
    elif 1 < share <= 100:
        remedy = _written(share)
    raise ConfigError(
        "not a share of buildings",
        expected="a number above 0 and below 1",
        got=f"{value}",
        remedy=remedy,
    )


def _of_per_cent(text: str) -> str:
    """How `20%` is written; empty for other text."""
    found = re.fullmatch(r"\s*(\d{1,2}(?:[.,]\d{1,9})?)\s*%\s*", text, re.ASCII)
    per_cent = float(found[1].replace(",", ".")) if found else 0.0
    return _written(per_cent) if per_cent else ""


def _written(per_cent: float) -> str:
    return f"write {per_cent / 100:g} for {per_cent:g} per cent"


def _layer(value: dict[str, Any]) -> ShareLayer:
    name = value.get("layer")
    if set(value) != {"layer"} or not isinstance(name, str) or not name:
        got = "{" + ", ".join(map(str, value)) + "}" if name is None else repr(name)
        raise ConfigError("wrong value", expected=_EXPECTED, got=got[:60])
    return ShareLayer(layer=name)


_Between = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[
    Literal["auto"] | float | ShareLayer,
    BeforeValidator(
        _checked_share,
        json_schema_input_type=Literal["auto"] | _Between | dict[Literal["layer"], str],
    ),
]
"""`auto`, one share for all buildings, or a raster of shares."""
