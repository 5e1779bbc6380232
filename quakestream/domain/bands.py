"""Which bands of an image are red, green and blue, and which counts mark missing ground."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

COLOURS = ("red", "green", "blue")
_CENTRES_UM = {"red": (0.66, 0.62, 0.69), "green": (0.56, 0.51, 0.60), "blue": (0.48, 0.45, 0.51)}
"""Usual centre wavelength of a colour, and the range of centres that count as it, micrometres.
Coastal blue (0.43), yellow (0.61) and red edge (0.70) lie outside."""
_NIR_UM, _NANOMETRES = (0.74, 1.4), 100.0
_LETTERS = {"r": "red", "g": "green", "b": "blue", "n": "nir"}
_WORDS = {
    **{colour: colour for colour in COLOURS},
    **dict.fromkeys(("nir", "infrared", "nearinfrared"), "nir"),
    **dict.fromkeys(("alpha", "opacity"), "alpha"),
    **dict.fromkeys(("pan", "panchromatic"), "pan"),
    **{word: word for word in ("coastal", "yellow", "rededge", "swir", "lwir", "cirrus")},
}
_CHANGES = {"edge": "rededge", "coastal": "coastal", "deep": "coastal", "near": "nir"}
"""Words that make another band of the colour beside them: red edge, coastal blue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedBands:
    """What the run file and the item say of an image's bands, in the order of the file."""

    order: tuple[int, ...] = ()
    """Bands (from 1) of red, green and blue by the run file; empty where it says nothing."""
    names: tuple[str, ...] = ()
    """What each band shows by the item: `red`, `nir`, `alpha`, ...; empty where it says nothing."""
    nodata: tuple[float | None, ...] = ()
    """Count of each band that marks missing ground by the item; one value counts for all."""


NOTHING_STATED = StatedBands()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """The bands of an image that are read. Checked against its file."""

    rgb: tuple[int, int, int] = (1, 2, 3)
    """Bands (from 1) of red, green and blue."""
    alpha: int = 0
    """Band (from 1) that is 0 where the image shows no ground; 0: no band is."""
    fills: tuple[tuple[int, int, int], ...] = ()
    """Counts of red, green and blue that together mark missing ground, besides those that the
    file declares."""
    notes: tuple[str, ...] = ()
    """Harmless oddities, one phrase each. They change no pixel."""

    @property
    def token(self) -> str:
        """The bands as part of a key; empty for plain red, green and blue."""
        if (self.rgb, self.alpha, self.fills) == ((1, 2, 3), 0, ()):
            return ""
        return f"bands {self.rgb} alpha {self.alpha} fills {self.fills}"

    def attributes(self) -> dict[str, Any]:
        """The bands as JSON; `of` reads them back."""
        return {"rgb": list(self.rgb), "alpha": self.alpha, "nodata": [list(f) for f in self.fills]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        red, green, blue = (int(band) for band in content["rgb"])
        fills = [tuple(int(count) for count in fill) for fill in content["nodata"]]
        return cls(
            rgb=(red, green, blue),
            alpha=int(content["alpha"]),
            fills=tuple((r, g, b) for r, g, b in fills),
        )


def colour_of(text: str) -> str:
    """What a band shows by its name or description: `red`, `nir`, ...; empty where that is open.

    `B1` and `Band 3` name no colour. `Red Edge` and `infrared` are not red.
    """
    lower = text.lower()
    words = re.findall(r"[a-z]+", lower)
    if not re.search(r"\d", lower):  # B is blue, B4 is a number
        letters = [_LETTERS[word] for word in words if word in _LETTERS]
        if letters and all(word in _LETTERS or word in ("band", "channel") for word in words):
            return letters[0] if len(letters) == 1 else ""
    for word in words:
        if word in _CHANGES:
            return _CHANGES[word]
    known = list(dict.fromkeys(_WORDS[word] for word in words if word in _WORDS))
    return known[0] if len(known) == 1 else ""


def band_names(bands: Sequence[tuple[Iterable[str], float | None]]) -> tuple[str, ...]:
    """What each band of an image shows.

    Of several bands of one colour (green I and green II), the one nearest to the colour's usual
    wavelength is it.

    Args:
        bands: texts that name each band, the most reliable first, and its centre wavelength in
            micrometres (or nanometres, as some write it).
    """
    names = [next((c for text in texts if (c := colour_of(text))), "") for texts, _ in bands]
    waves = [um / 1000 if um is not None and um > _NANOMETRES else um for _, um in bands]
    for n, um in enumerate(waves):
        if not names[n] and um is not None and _NIR_UM[0] <= um <= _NIR_UM[1]:
            names[n] = "nir"
    for colour, (usual, low, high) in _CENTRES_UM.items():
        named = [n for n, name in enumerate(names) if name == colour]
        if not named:
            named = [n for n, um in enumerate(waves) if not names[n] and um and low <= um <= high]
        known = [(abs(um - usual), n) for n in named if (um := waves[n]) is not None]
        if len(named) > 1 and len(known) < len(named):
            continue  # several, and nothing tells which
        for n in named:
            names[n] = colour if len(named) == 1 or n == min(known)[1] else f"other {colour}"
    return tuple(names)


def rgb_of(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Bands (from 1) of red, green and blue; None unless each colour is named once."""
    if any(list(names).count(colour) != 1 for colour in COLOURS):
        return None
    red, green, blue = (list(names).index(colour) + 1 for colour in COLOURS)
    return red, green, blue
