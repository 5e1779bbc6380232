"""Provenance of points, for manifest and card."""

from pathlib import Path

from training.hazard.bundle import PointsProvenance
from training.hazard.points import FIELD

_FIELD_NOTES = """
`adi`: amplitude dispersion index of radar images. `dpm_s1`, `dpm_alos2`: damage proxies, 0 to 1,
from Sentinel-1 and ALOS-2. `ndbi`: change of the built-up index, 0 to 0.6 in the data. `pga_g`:
peak ground acceleration; a run has it from its ShakeMap, or from a layer of that name. In training
it is the authors' layer: within one city it varies slowly, and so may stand for anything else that
does.
"""


def source_of(points: str, excluded: str) -> PointsProvenance:
    """Provenance of the field points, or of a file.

    Args:
        points: source as in `read_points`.
        excluded: description of the ground that is left out.
    """
    if points != FIELD:
        name = Path(points).name
        return PointsProvenance(
            data=f"{name}.", licence=f"That of {name} applies.", excluded=excluded
        )
    return PointsProvenance(
        data="Damage classes of a field survey of Kahramanmaraş after the earthquakes of 6 "
        "February 2023 on a grid of about 30 m, and layers sampled there, by Yu et al. 2024 (npj "
        "Natural Hazards, doi 10.1038/s44304-024-00003-0).",
        licence="Code and coefficients: Apache-2.0, as far as they are ours to license. The data "
        "came without a licence statement; of them the bundle holds means, spreads and quantiles "
        "per layer, and no point.",
        excluded=excluded,
        # The dates of survey and layers are not stated; they are after the earthquake.
        period=("2023-02-06T00:00:00Z", "2023-12-31T23:59:59Z"),
        notes=_FIELD_NOTES,
    )
