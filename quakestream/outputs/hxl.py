"""summary.hxl.csv: the summary with a row of HXL tags, as humanitarian data platforms read it.

Tags are those of the Humanitarian Exchange Language, standard 1.1. All figures are `#impact`;
counts have the attribute `+num`, shares `+ratio`, ends of an interval `+min` and `+max`.
"""

import csv
import io
import re

import pandas as pd

from quakestream.outputs.summary import TOUCHED

BUILDINGS = "#impact+buildings"
SLIDES = "#impact+landslides"
TAGS = {
    "unit": "#loc+name",
    "pcode": "#loc+code",
    "buildings": f"{BUILDINGS}+total+num",
    "share_assessed": f"{BUILDINGS}+assessed+ratio",
    "expected_low": f"{BUILDINGS}+expected+destroyed+min+num",
    "expected_high": f"{BUILDINGS}+expected+destroyed+max+num",
    "share_low": f"{BUILDINGS}+expected+destroyed+min+ratio",
    "share_high": f"{BUILDINGS}+expected+destroyed+max+ratio",
    "landslides": f"{SLIDES}+num",
    "landslide_km2": f"{SLIDES}+area+km2",
    "landslide_road_km": f"{SLIDES}+roads+km",
    TOUCHED: f"{SLIDES}+buildings+num",
}
"""Tags of columns of one meaning in every map."""
PREFIXES = {
    "share_of_assessed_": (f"{BUILDINGS}+declared", "+ratio"),
    "not_assessed_": (f"{BUILDINGS}+not_assessed", "+num"),
    "expected_": (f"{BUILDINGS}+expected", "+num"),
    "share_": (f"{BUILDINGS}+expected", "+ratio"),
}
"""Beginning and end of the tags of other columns, by how the name begins."""


def hxl_csv(summary: pd.DataFrame) -> bytes:
    """The rows of summary.csv below two headers: names of columns, then their tags."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(summary.columns)
    writer.writerow(hxl_tag(str(name)) for name in summary.columns)
    summary.to_csv(text, index=False, header=False, lineterminator="\n")
    return text.getvalue().encode()


def hxl_tag(column: str) -> str:
    """The tag of a column of summary.csv."""
    if column in TAGS:
        return TAGS[column]
    for prefix, (first, last) in PREFIXES.items():
        if column.startswith(prefix):
            return f"{first}+{_attribute(column.removeprefix(prefix))}{last}"
    whole = "" if column in ("assessed", "not_assessed") else "+declared"
    return f"{BUILDINGS}{whole}+{_attribute(column)}+num"


def _attribute(text: str) -> str:
    """A text as an attribute of a tag: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "other"
