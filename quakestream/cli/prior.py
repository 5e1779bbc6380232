"""`quakestream prior`: the landslide prior of an earthquake, without any image."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from quakestream.cli.common import (
    EXIT_ATTENTION,
    Json,
    S3Anon,
    S3Endpoint,
    fault_line,
    print_json,
    s3_options,
    stderr,
    stdout,
)
from quakestream.cli.map import Quiet
from quakestream.config.fields import is_uri
from quakestream.errors import HazardError, RequestError
from quakestream.redaction import redacted
from quakestream.storage import MissingObjectError, open_store

if TYPE_CHECKING:
    from quakestream.hazard.prior_raster import PriorRaster


ShakeMaps = Annotated[
    list[str],
    typer.Option(
        help="ShakeMap grid.xml; several times for several events. An uncertainty.xml beside it "
        "is read, too."
    ),
]
Gradient = Annotated[
    str, typer.Option(help="Raster of the gradient, rise over run: the prior's own pixels.")
]
Deviation = Annotated[
    str | None,
    typer.Option(help="Raster of the standard deviation of the logit; left out: 0.03."),
]
Shaking = Annotated[
    Literal["bilinear", "triangles"],
    typer.Option(
        help="How shaking is read between the nodes of a ShakeMap: bilinear, or on the triangles "
        "of USGS's own runs, to compare with their products."
    ),
]


def prior(
    shakemap: ShakeMaps,
    gradient: Gradient,
    lithology: Annotated[str, typer.Option(help="Raster of lithology coefficients.")],
    cti: Annotated[str, typer.Option(help="Raster of the compound topographic index.")],
    landcover: Annotated[str, typer.Option(help="Raster of land-cover coefficients.")],
    out: Annotated[str, typer.Option("--out", "-o", help="The COG to write: a file or URI.")],
    stddev: Deviation = None,
    shaking: Shaking = "bilinear",
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the landslide prior of an earthquake: the share of ground that slides.

    The model is that of Nowicki Jessee et al. (2018), which needs a ShakeMap and four static
    layers and no image. The COG has two bands: coverage, and its standard deviation. Layers may
    lie on different grids. Ground without a value in one of them has none. Exit code 1 means that
    a layer has unknown values, or does not cover all shaken ground.

    Example: quakestream prior --shakemap grid.xml --gradient global_grad.tif --lithology
    GLIM_replace.tif --cti global_cti_fil.grd --landcover globcover_replace.tif -o prior.tif
    """
    from quakestream.hazard.landslide_prior import PriorInputs, open_prior
    from quakestream.hazard.prior_raster import prior_raster

    options = s3_options(endpoint_url, anon)
    inputs = PriorInputs(
        shakemaps=tuple(shakemap),
        lithology=lithology,
        landcover=landcover,
        cti=cti,
        stddev=stddev,
        gradient=gradient,
        shaking=shaking,
    )
    try:
        with open_prior(inputs, options) as opened:
            raster = prior_raster(opened)
    except (HazardError, MissingObjectError) as error:  # every input is part of the request
        raise RequestError.of(error.problem) from error
    folder, _, name = out.rpartition("/")
    folder = folder or ("/" if out.startswith("/") else ".")
    made = not is_uri(folder) and not Path(folder).exists()
    open_store(folder, options).put(name, raster.cog)
    if made and not quiet:
        stderr.print(redacted(f"note: the folder {folder} was missing, and was made"))
    _report(out, raster, as_json=as_json, quiet=quiet)
    if raster.attention:
        raise typer.Exit(EXIT_ATTENTION)


def _report(out: str, raster: "PriorRaster", *, as_json: bool, quiet: bool) -> None:
    """Prints the figures of the raster, and what is wrong with its inputs."""
    if as_json:
        print_json(_as_json(out, raster))
    else:
        stdout.print(redacted(f"{out}: {_line(raster)}"))
    for issue in raster.issues if not quiet else ():
        stderr.print(redacted(fault_line(issue.kind, issue.subject, issue.cause)))


def _line(raster: "PriorRaster") -> str:
    summary = raster.summary
    above = ", ".join(f"{km2:,.1f} km² above {t:.0%}" for t, km2 in summary.above_km2.items())
    return (
        f"coverage up to {summary.max_coverage:.3f}; of {summary.assessed_km2:,.0f} km², {above}; "
        f"{summary.expected_km2:,.1f} km² expected to slide"
    )


def _as_json(out: str, raster: "PriorRaster") -> dict[str, Any]:
    summary = raster.summary
    return {
        "out": redacted(out),
        "max_coverage": summary.max_coverage,
        "assessed_km2": summary.assessed_km2,
        "expected_km2": summary.expected_km2,
        "above_km2": {f"{t:g}": km2 for t, km2 in summary.above_km2.items()},
        "bounds": list(raster.bounds),
        "crs": raster.crs,
        "issues": [{"subject": issue.subject, "cause": issue.cause} for issue in raster.issues],
    }
