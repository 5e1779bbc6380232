"""Which layers and attributes of a file are read."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from quakestream.errors import RequestError
from quakestream.vectors.datasets import DataSet

FID = "fid"
"""Name under which the feature numbers of a file are asked for."""
Box = tuple[float, float, float, float]
"""West, south, east, north, degrees."""
MARGIN_DEG = 1e-4
"""Bounds are floats of 32 bits in many files, rounded by a metre or so."""
LEFT_OUT = "left_out"
"""Key of `attrs` with the number of features that were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """The attributes that a caller wants."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    """Read where the file has them."""
    every: bool = False
    """All that there are, with the required ones among them."""
    remedy: str = ""
    """What to do where a required one is missing."""

    def among(self, present: Sequence[str]) -> list[str]:
        """Those to read out of the attributes of a file.

        The feature number is no attribute: it is among them only where a column has its name.

        Raises:
            RequestError: if a required one is missing.
        """
        for name in self.required:
            if name not in present and name != FID:
                known = ", ".join(sorted(map(str, present))) or "none"
                close = difflib.get_close_matches(name, map(str, present), n=1, cutoff=0.5)
                hint = f"did you mean {close[0]!r}?" if close else ""
                raise RequestError(
                    f"has no column {name!r}",
                    got=f"columns {known}",
                    remedy=" ".join(part for part in (hint, self.remedy) if part),
                )
        wanted = present if self.every else (*self.required, *self.optional)
        return [name for name in dict.fromkeys(wanted) if name in present]

    def wants_fid(self, present: Sequence[str]) -> bool:
        """True if the feature number is wanted, and no column has its name."""
        return FID in self.required and FID not in present


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer with geometry."""

    source: DataSet
    name: str
    """Its name for the reader of its data set; empty where there is but one."""
    label: str
    """Its name for people, unique in the file."""


def labelled(found: Sequence[tuple[DataSet, str]]) -> list[Layer]:
    """Layers with names for people: their own, after their file's where several share it."""
    names = [name or source.path.stem for source, name in found]
    return [
        Layer(
            source=source,
            name=name,
            label=own if names.count(own) == 1 else f"{source.name}/{own}",
        )
        for (source, name), own in zip(found, names, strict=True)
    ]


def chosen(layers: Sequence[Layer], wanted: str | None, *, union: bool) -> list[Layer]:
    """The layers to read: the one that is wanted, the only one, or all.

    Raises:
        RequestError: if several could be meant, or none has the name; it lists them.
    """
    labels = [layer.label for layer in layers]
    listed = ", ".join(labels)
    if wanted is not None:
        if wanted not in labels:
            raise RequestError(f"has no layer {wanted!r}", got=f"layers {listed}")
        return [layers[labels.index(wanted)]]
    if len(layers) > 1 and not union:
        raise RequestError(
            f"holds {len(layers)} layers",
            expected="one layer, or the name of the one to read",
            got=listed,
            remedy="name it with `layer`",
        )
    return list(layers)
