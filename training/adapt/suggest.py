"""`quakestream suggest`: which buildings to label next."""

from pathlib import Path
from typing import Annotated, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import typer
from numpy.typing import NDArray

from quakestream.cli.common import Json, S3Anon, S3Endpoint, counted, print_json, s3_options, stdout
from quakestream.cli.folders import make_folder
from quakestream.errors import ConfigError, RequestError
from quakestream.outputs.matching import match, utm_of
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.truth import TruthRequest, read_truth
from quakestream.storage import open_store
from training.active import Pool, acquire
from training.adapt.labels import read_answers
from training.adapt.scores import log_odds, old_scores

STRATA = 5
"""Bands of equal width that `stratified` divides scores into."""
METHODS = {
    "diverse": "uncertain, and far from the others in place, score and size",
    "margin": "the map is least sure",
    "entropy": "the map is least sure, over all classes",
    "stratified": "drawn within bands of score",
    "random": "drawn at random",
}
"""Ways to choose, and the reason that the list gives for a building."""


def suggest(
    out: Annotated[str, typer.Argument(help="The finished map: a folder or URI.")],
    n: Annotated[int, typer.Option("--n", help="Number of buildings.")] = 50,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")] = "diverse",
    labels: Annotated[
        str | None, typer.Option(help="Labels that there are: these buildings are left out.")
    ] = None,
    to: Annotated[
        Path, typer.Option("-o", "--out", help="Files without ending: .csv and .geojson are added.")
    ] = Path("to_label"),
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    endpoint_url: S3Endpoint = None,
    anon: S3Anon = False,
    as_json: Json = False,
) -> None:
    """Choose the buildings to label next: uncertain ones, spread over the map.

    Writes a CSV and a GeoJSON with an empty column `answer` for destroyed, damaged, intact or
    cannot_tell. Filled in, `quakestream adapt` reads either.

    Example: quakestream suggest out/ --n 50 --labels answers.csv -o next
    """
    if method not in METHODS:
        raise ConfigError("unknown method", "--method", f"one of {', '.join(METHODS)}", method)
    if n < 1:
        raise ConfigError("wrong number of buildings", "--n", "1 or more", str(n))
    store = open_store(out, s3_options(endpoint_url, anon))
    record = current_run(store)
    buildings = current_buildings(store, record)
    taken_N = np.zeros(len(buildings), bool)
    if labels is not None:
        taken_N = labelled(buildings, labels, scale_of(record), store.options)
    free = buildings[(buildings["status"] == "assessed").to_numpy() & ~taken_N]
    if free.empty:
        raise RequestError(
            "nothing is left to label",
            out,
            expected="assessed buildings without a label",
            got=f"{len(buildings):,} buildings, {int(taken_N.sum()):,} labelled",
        )
    rows = suggested(free, record, method, n, seed=seed)
    make_folder(to.parent)
    files = [to.with_name(f"{to.name}{ending}") for ending in (".csv", ".geojson")]
    pd.DataFrame(rows.drop(columns="geometry")).to_csv(files[0], index=False)
    files[1].write_text(rows.to_json(drop_id=True))
    if as_json:
        plain = rows.drop(columns=["geometry", "answer"]).to_dict(orient="records")
        print_json({"method": method, "files": [str(f) for f in files], "buildings": plain})
        return
    stdout.print(
        f"{counted(len(rows), 'building')} of {len(free):,} without a label, {METHODS[method]}"
    )
    stdout.print(f"{files[0]} and {files[1]}: fill in `answer`")


def suggested(
    free: gpd.GeoDataFrame, record: dict[str, Any], method: str, count: int, *, seed: int = 0
) -> gpd.GeoDataFrame:
    """The chosen buildings, the most wanted first.

    Args:
        free: assessed buildings without a label.
        record: run.json.
        method: one of `METHODS`.
        count: number of buildings; all of them if there are fewer.
        seed: of what is drawn.
    """
    place_N = _chosen(free, record, method, count, seed)
    rows = free.iloc[place_N]
    point_N = shapely.point_on_surface(rows.geometry.to_numpy())
    table = pd.DataFrame(
        {
            "building_id": rows["building_id"].to_numpy(),
            "lon": shapely.get_x(point_N).round(7),
            "lat": shapely.get_y(point_N).round(7),
            "score": old_scores(free, record)[place_N].round(4),
            "why": METHODS[method],
            "answer": "",
        }
    )
    return gpd.GeoDataFrame(table, geometry=rows.geometry.to_numpy(), crs=free.crs)


def labelled(
    buildings: gpd.GeoDataFrame, uri: str, classes: Any, storage: Any
) -> NDArray[np.bool_]:
    """True for buildings that a label file speaks of, whatever it says.

    Raises:
        RequestError: if the file is unusable, or none of its ids is in the map.
    """
    request = TruthRequest(uri=uri)
    truth = read_answers(request, storage) or read_truth(request, classes, storage)
    if truth.by_id:
        known = buildings["building_id"].astype(str).isin(truth.items["building_id"])
        return np.asarray(known, np.bool_)
    return np.asarray(match(truth, buildings, 5.0).rows["severe"].notna(), np.bool_)


def _chosen(
    free: gpd.GeoDataFrame, record: dict[str, Any], method: str, count: int, seed: int
) -> NDArray[np.int64]:
    labels = [c.label for c in scale_of(record)]
    p_NC = free[[f"p_{label}" for label in labels]].to_numpy(np.float64)
    pool = Pool(
        id_N=free["building_id"].to_numpy().astype(str),
        probabilities_TNC=p_NC[None],
        feature_ND=_features(free, p_NC[:, -1]),
    )
    if method == "stratified":
        return stratified(old_scores(free, record), count, seed)
    plain = {"diverse": "margin"}.get(method, method)
    return acquire(plain, pool, count, seed=seed, spread=method == "diverse")


def _features(free: gpd.GeoDataFrame, p_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place, score and size, each of deviation 1."""
    metric = free.geometry.to_crs(utm_of(free))
    point = metric.representative_point()
    columns = [point.x, point.y, log_odds(p_N), np.log(np.maximum(metric.area, 1.0))]
    raw_ND = np.column_stack(columns)
    spread_ND: NDArray[np.float64] = (raw_ND - raw_ND.mean(0)) / np.maximum(raw_ND.std(0), 1e-9)
    return spread_ND


def stratified(score_N: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """Takes from each band of scores in turn, at random within a band, until there are enough."""
    low, high = float(score_N.min()), float(score_N.max())
    band_N = np.clip(((score_N - low) / max(high - low, 1e-9) * STRATA).astype(int), 0, STRATA - 1)
    rng = np.random.default_rng(seed)
    turn_N = np.empty(len(score_N), np.int64)
    for band in range(STRATA):
        members = rng.permutation(np.flatnonzero(band_N == band))
        turn_N[members] = np.arange(len(members))
    return np.lexsort((-band_N, turn_N))[:count]
