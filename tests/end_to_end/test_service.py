"""The HTTP service: jobs, results, limits and who may see what, over a tiny town."""

import asyncio
import gzip
import io
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import geopandas as gpd
import httpx
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.config import open_run
from quakestream.errors import RequestError
from quakestream.outputs.layout import COMMITS
from quakestream.outputs.lease import held_lease
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import Result, map_run
from quakestream.storage import open_store
from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_stand_in_bundle
from serving.health import Health
from serving.here import LocalServices
from serving.jobs import ServiceJob
from serving.mapper import Mapper, with_changes
from serving.places import FootprintPlaces
from serving.processes import map_request
from tests.helpers.running import SMALL_CELLS, run_content, write_run, write_threshold_bundle
from tests.helpers.services import (
    JOB_S,
    Service,
    Tokens,
    running_service,
    service_settings,
    write_tokens,
)

T = TypeVar("T")
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return write_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_threshold_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def with_service(
    tmp_path: Path, town: SyntheticEarthquake, bundle: Path, tokens: Tokens
) -> Callable[..., Any]:
    """Runs a coroutine function with a service in a folder of its own."""

    def run(use: Callable[[Service], Awaitable[T]], **changed: Any) -> T:
        settings = service_settings(tmp_path, town, bundle, tokens, **changed)

        async def main() -> T:
            async with running_service(settings, tokens) as service:
                return await use(service)

        return asyncio.run(main())

    return run


@pytest.fixture(scope="module")
def aoi(town: SyntheticEarthquake) -> dict[str, Any]:
    """The area of the town as a GeoJSON geometry."""
    return json.loads(gpd.read_file(town.aoi).to_json())["features"][0]["geometry"]  # type: ignore[no-any-return]


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of an answer, which must be one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith(PROBLEM), answer.headers
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    return problem


def test_a_job_gives_the_map_of_the_command_line(
    with_service: Callable[..., Any],
    town: SyntheticEarthquake,
    bundle: Path,
    aoi: dict[str, Any],
    tmp_path: Path,
) -> None:
    run = open_run(write_run(tmp_path / "alone" / "run.yaml", run_content(town, bundle)))
    alone = map_run(run, backend=LocalBackend(), out=str(tmp_path / "alone" / "out"))

    async def use(service: Service) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
        accepted = await service.map({"aoi": aoi}, outputs={"buildings": {}, "run": {}})
        assert accepted.status_code == 201, accepted.text
        job = accepted.json()
        assert accepted.headers["location"] == f"http://service/jobs/{job['jobID']}"
        assert job["status"] == "accepted"
        info = await service.ended(job["jobID"])
        results = (await service.get(f"/jobs/{job['jobID']}/results")).json()
        assert set(results) == {"buildings", "run", "links"}
        rows = await service.get(results["buildings"]["href"])
        page = await service.client.get(results["links"][0]["href"])
        return info, results, rows.content, page.content

    info, results, rows, page = with_service(use)
    assert info["status"] == "successful"
    assert info["progress"] == 100
    assert results["buildings"]["type"] == "application/vnd.apache.parquet"
    made = gpd.read_parquet(io.BytesIO(rows))
    columns = ["building_id", "status", "damage", "confidence", "valid_fraction"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(made[columns]), pd.DataFrame(alone.buildings[columns])
    )
    assert page[:14].lower() == b"<!doctype html"


def test_results_by_value(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> dict[str, Any]:
        outputs = {name: {"transmissionMode": "value"} for name in ("buildings", "summary", "run")}
        job = (await service.map({"aoi": aoi}, outputs=outputs)).json()["jobID"]
        await service.ended(job)
        return (await service.get(f"/jobs/{job}/results")).json()  # type: ignore[no-any-return]

    results = with_service(use)
    counts = results["run"]["counts"]
    assert len(results["buildings"]["features"]) == counts["footprints"] > 10
    assert results["summary"].startswith("unit") or "," in results["summary"].splitlines()[0]


def test_a_result_that_is_not_ready(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        problem = is_problem(await service.get(f"/jobs/{job}/results"), 404)
        assert problem["type"].endswith("/result-not-ready")

    with_service(use)


async def _status(service: Service, path: str, headers: dict[str, str]) -> httpx.Response:
    return await service.client.get(path, headers=headers)


def test_who_may_do_what(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        paths = ("/", "/conformance", "/processes", "/jobs", "/bundles", "/metrics")
        for path in (*paths, "/openapi.json", "/runs/x/run.json", "/jobs/x"):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic YTpi"},
                {"Authorization": "Bearer"},
                service.tokens.header("old"),
            ):
                answer = await _status(service, path, headers)
                is_problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await service.client.get("/healthz")).status_code == 200
        is_problem(await service.map({"aoi": aoi}, "reader"), 403)
        job = (await service.map({"aoi": aoi}, "ada")).json()["jobID"]
        await service.ended(job)
        for path in (f"/jobs/{job}", f"/jobs/{job}/results", f"/runs/{job}/run.json"):
            assert (await service.get(path, "ada")).status_code == 200
            assert (await service.get(path, "admin")).status_code == 200
            is_problem(await service.get(path, "ben"), 404)
        is_problem(await service.delete(f"/jobs/{job}", "ben"), 404)
        assert [j["jobID"] for j in (await service.get("/jobs", "ada")).json()["jobs"]] == [job]
        assert (await service.get("/jobs", "ben")).json()["jobs"] == []

    with_service(use)


def test_tokens_are_replaced_without_a_restart(
    with_service: Callable[..., Any], tmp_path: Path
) -> None:
    own = write_tokens(tmp_path)

    async def use(service: Service) -> None:
        assert (await service.client.get("/jobs", headers=own.header("ada"))).status_code == 200
        new = write_tokens(tmp_path)
        assert (await service.client.get("/jobs", headers=own.header("ada"))).status_code == 401
        assert (await service.client.get("/jobs", headers=new.header("ada"))).status_code == 200
        own.path.write_text("not: a list")
        assert (await service.client.get("/jobs", headers=new.header("ada"))).status_code == 200

    with_service(use, tokens=str(own.path))


SQUARE = [[37.0, 37.5], [37.3, 37.5], [37.3, 37.8], [37.0, 37.8], [37.0, 37.5]]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "no area"),
        ({"aoi": "POLYGON ((0 0, 1 0, 1 1, 0 0))"}, "no area"),
        ({"aoi": {"type": "Polygon", "coordinates": [[["a", 1]]]}}, "not GeoJSON"),
        ({"aoi": {"type": "Polygon", "coordinates": []}}, "the polygon is empty"),
        ({"aoi": {"type": "Point", "coordinates": [37, 37]}}, "no area"),
        ({"aoi": {"type": "Polygon", "coordinates": [[[5, 90], [6, 90], [6, 91], [5, 90]]]}},
         "beyond the Earth"),
        ({"run": "other", "aoi": {}}, "no such run"),
        ({"run": "../../etc/passwd", "aoi": {}}, "no such run"),
        ({"aoi": {}, "profile": "fast"}, "no such profile"),
        ({"aoi": {}, "out": "s3://other"}, "no such input"),
    ],
)  # fmt: skip
def test_wrong_inputs(with_service: Callable[..., Any], inputs: dict[str, Any], says: str) -> None:
    async def use(service: Service) -> None:
        problem = is_problem(await service.map(inputs), 400)
        assert says in json.dumps(problem)
        assert (await service.get("/jobs")).json()["jobs"] == []

    with_service(use)


def test_a_member_that_would_be_ignored_is_refused_by_name(
    with_service: Callable[..., Any],
) -> None:
    async def use(service: Service) -> None:
        body = {"inputs": {"aoi": NOWHERE}, "profile": "standard", "shakemap": "x"}
        problem = is_problem(await service.post("/processes/map/execution", json=body), 400)
        assert problem["title"] == "no such member"
        assert problem["got"] == "profile, shakemap"
        assert problem["expected"] == "inputs, outputs, response"
        assert problem["remedy"] == "write it inside `inputs`"
        old = {"inputs": {"aoi": NOWHERE}, "mode": "async"}  # what drafts of the standard had
        problem = is_problem(await service.post("/processes/map/execution", json=old), 400)
        assert problem["title"] == "no building of the run lies in the area"

    with_service(use)


def test_a_large_area_is_413(with_service: Callable[..., Any]) -> None:
    async def use(service: Service) -> None:
        answer = await service.map({"aoi": {"type": "Polygon", "coordinates": [SQUARE]}})
        assert "25 km²" in is_problem(answer, 413)["detail"]

    with_service(use)


def test_a_model_that_is_switched_off_stays_off(town: SyntheticEarthquake, bundle: Path) -> None:
    content = run_content(town, bundle, models={"damage": None, "landslide": "landslide-rgb"})
    changed = with_changes(open_run(content), {"profile": "standard"})
    assert changed.models.damage is None
    assert changed.models.landslide == "landslide-rgb"
    assert changed.profile == "standard"


NOWHERE = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [0.001, 0.0], [0.001, 0.001], [0, 0]]]}


def test_an_area_without_buildings_is_refused_before_it_is_a_job(
    with_service: Callable[..., Any],
) -> None:
    async def use(service: Service) -> None:
        problem = is_problem(await service.map({"aoi": NOWHERE}), 400)
        assert problem["title"] == "no building of the run lies in the area"
        assert problem["where"] == "inputs.aoi"
        assert "'town'" in problem["expected"]
        assert re.search(r"its footprints: \d+ in \d+", problem["got"]), problem
        assert "within these bounds" in problem["remedy"]
        assert (await service.get("/jobs")).json()["jobs"] == []
        wkt = shapely.from_geojson(json.dumps(NOWHERE)).wkt
        runs, request = service.context.settings.runs, {"run": "town", "aoi_wkt": wkt}
        with pytest.raises(RequestError):
            await FootprintPlaces().check(runs, request)
        await FootprintPlaces(longest_s=0.0).check(runs, request)  # the job will say so

    with_service(use)


def test_an_area_without_imagery_fails_with_its_reason(
    with_service: Callable[..., Any],
    town: SyntheticEarthquake,
    bundle: Path,
    aoi: dict[str, Any],
    tmp_path: Path,
) -> None:
    content = run_content(town, bundle)
    content["imagery"]["post"] = {"datetime": "2030-01-01/2030-02-01"}
    late = str(write_run(tmp_path / "late.yaml", content))

    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        info = await service.ended(job)
        assert info["status"] == "failed"
        assert info["problem"]["what"]
        is_problem(await service.get(f"/jobs/{job}/results"), 409)

    with_service(use, runs={"late": late})


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"null", {}, 400),
        (b'{"inputs": "x"}', {}, 400),
        (b" " * 2_000_000, {}, 413),
        (gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}, 415),
    ],
    ids=["cut", "deep", "null", "text", "large", "packed"],
)
def test_wrong_bodies(
    with_service: Callable[..., Any], body: bytes, headers: dict[str, str], status: int
) -> None:
    async def use(service: Service) -> None:
        headers_all = {"Content-Type": "application/json", **headers}
        answer = await service.post("/processes/map/execution", headers=headers_all, content=body)
        is_problem(answer, status)

    with_service(use, limits={"body_bytes": 1_000_000})


def test_a_body_without_a_length_is_counted(with_service: Callable[..., Any]) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    async def use(service: Service) -> None:
        async def parts() -> Any:
            for part in endless():
                yield part

        answer = await service.post("/processes/map/execution", content=parts())
        is_problem(answer, 413)

    with_service(use, limits={"body_bytes": 1_000_000})


def test_limits_of_a_token(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        first = await service.map({"aoi": aoi})
        assert first.status_code == 201
        second = await service.map({"aoi": aoi})
        is_problem(second, 429)
        assert int(second.headers["retry-after"]) > 0
        assert (await service.map({"aoi": aoi}, "ben")).status_code == 201
        for _ in range(6):
            last = await service.get("/conformance", "reader")
        is_problem(last, 429)
        assert int(last.headers["retry-after"]) > 0

    with_service(use, limits={"jobs_per_token": 1, "requests_per_minute": 5})


def test_the_same_key_is_one_job(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        async def submit(content: dict[str, Any], who: str) -> httpx.Response:
            return await service.post(
                "/processes/map/execution",
                who,
                headers={"Idempotency-Key": "one"},
                json={"inputs": content},
            )

        answers = await asyncio.gather(*(submit({"aoi": aoi}, "ada") for _ in range(3)))
        assert len({a.json()["jobID"] for a in answers}) == 1
        other = await submit({"aoi": aoi}, "ben")
        assert other.json()["jobID"] != answers[0].json()["jobID"]
        is_problem(await submit({"aoi": aoi, "profile": "standard"}, "ada"), 400)

    with_service(use)


def test_a_dismissed_job_leaves_nothing(
    with_service: Callable[..., Any], aoi: dict[str, Any]
) -> None:
    async def use(service: Service) -> None:
        jobs = [(await service.map({"aoi": aoi})).json()["jobID"] for _ in range(2)]
        await service.get("/conformance")
        for job in jobs:
            assert (await service.delete(f"/jobs/{job}")).json()["status"] == "dismissed"
        third = (await service.map({"aoi": aoi})).json()["jobID"]
        assert (await service.ended(third))["status"] == "successful"
        assert (await service.delete(f"/jobs/{third}")).json()["status"] == "dismissed"
        for job in [*jobs, third]:
            assert (await service.get(f"/jobs/{job}")).json()["status"] == "dismissed"
            is_problem(await service.get(f"/jobs/{job}/results"), 404)
            assert service.context.store.list(f"runs/{job}/") == []

    with_service(use)


def test_a_job_that_is_dismissed_while_it_commits(
    with_service: Callable[..., Any],
    town: SyntheticEarthquake,
    aoi: dict[str, Any],
    tmp_path: Path,
) -> None:
    slow = tmp_path / "slow"
    write_stand_in_bundle(slow, window_s=0.02, window_px=128)
    execution = {**SMALL_CELLS, "runtime": "stand-in"}
    run = write_run(tmp_path / "slow.yaml", run_content(town, slow, execution=execution))

    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        store = service.context.store
        while not any(COMMITS in key for key in store.list(f"runs/{job}/")):
            await asyncio.sleep(0.01)
        assert (await service.get(f"/jobs/{job}")).json()["status"] == "running"
        assert (await service.delete(f"/jobs/{job}")).json()["status"] == "dismissed"
        async with asyncio.timeout(JOB_S):
            while store.list(f"runs/{job}/"):
                await asyncio.sleep(0.02)
        again = (await service.map({"aoi": aoi})).json()["jobID"]
        assert (await service.ended(again))["status"] == "successful"
        assert store.list(f"runs/{job}/") == []
        assert (await service.get(f"/jobs/{job}")).json()["status"] == "dismissed"

    with_service(use, runs={"town": str(run)})


def test_unfinished_jobs_go_on_after_a_restart(
    with_service: Callable[..., Any], aoi: dict[str, Any]
) -> None:
    async def submit(service: Service) -> str:
        return str((await service.map({"aoi": aoi})).json()["jobID"])

    job = with_service(submit)

    async def wait(service: Service) -> dict[str, Any]:
        return await service.ended(job)

    assert with_service(wait)["status"] == "successful"


def test_a_job_waits_for_the_process_that_still_runs_it(
    tmp_path: Path, town: SyntheticEarthquake, bundle: Path, tokens: Tokens, aoi: dict[str, Any]
) -> None:
    """A mapper that is being replaced holds the lease of the map until it has ended."""
    settings = service_settings(tmp_path, town, bundle, tokens)
    store = open_store(settings.root)
    request = map_request({"aoi": aoi}, settings.runs, settings.limits)
    job = ServiceJob(
        id="one", owner="ada", process="map", request=request, created=datetime.now(UTC)
    )
    with ThreadPoolExecutor(1) as pool:
        with held_lease(open_store(store.uri_of(job.out)), print):
            outcome = pool.submit(Mapper(settings.runs, store).run, job)
            with pytest.raises(TimeoutError):
                outcome.result(0.5)
        assert outcome.result(JOB_S).state == "successful"


def test_progress_as_events(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        answer = await service.get(f"/jobs/{job}/events")
        lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
        states = [json.loads(line.removeprefix("data:"))["status"] for line in lines]
        assert states[-1] == "successful"

    with_service(use)


def test_products_by_range_and_names_that_are_none(
    with_service: Callable[..., Any], aoi: dict[str, Any]
) -> None:
    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        await service.ended(job)
        path = f"/runs/{job}/buildings.parquet"
        whole = (await service.get(path)).content
        headers = {**service.tokens.header("ada"), "Range": "bytes=4-11"}
        part = await service.client.get(path, headers=headers)
        assert part.status_code == 206
        assert part.content == whole[4:12]
        assert part.headers["content-range"] == f"bytes 4-11/{len(whole)}"
        beyond = {**service.tokens.header("ada"), "Range": f"bytes={len(whole)}-"}
        is_problem(await service.client.get(path, headers=beyond), 416)
        for name in (
            "../jobs/x/job.json",
            "%2e%2e/%2e%2e/tokens.yaml",
            "..%2f..%2ftokens.yaml",
            "_ledger/progress.json",
            "/etc/passwd",
            "nothing.txt",
        ):
            answer = await service.get(f"/runs/{job}/{name}")
            assert answer.status_code == 404, name
        for run in ("..", "%2e%2e", "jobs", "x" * 5000):
            assert (await service.get(f"/runs/{run}/run.json")).status_code == 404

    with_service(use)


@pytest.fixture(scope="module")
def night(
    town: SyntheticEarthquake, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Result:
    """A finished map."""
    folder = tmp_path_factory.mktemp("night")
    run = open_run(write_run(folder / "run.yaml", run_content(town, bundle)))
    return map_run(run, backend=LocalBackend(), out=str(folder / "out"))


def test_maps_of_the_settings_are_shown_to_readers(
    with_service: Callable[..., Any], night: Result
) -> None:
    async def use(service: Service) -> None:
        answer = await service.get("/runs/last-night/buildings.parquet", "reader")
        rows = gpd.read_parquet(io.BytesIO(answer.content))
        assert len(rows) == night.run["counts"]["footprints"]
        assert (await service.get("/runs/last-night/", "reader")).status_code == 200
        core = await service.get("/runs/last-night/live/core", "reader")
        assert core.status_code == 200
        is_problem(await service.get("/runs/last-night/live/nothing", "reader"), 404)

    with_service(use, maps={"last-night": night.out})
    store = open_store(night.out)
    assert len(current_buildings(store, current_run(store))) > 0


def test_tiles_hold_the_buildings_of_the_map(
    with_service: Callable[..., Any], night: Result, tmp_path: Path
) -> None:
    """GDAL decodes them: outlines close up, counts far away."""
    rows = night.buildings.set_index("building_id")
    zoom = 17

    async def use(service: Service) -> None:
        about = (await service.get("/runs/night/tiles", "reader")).json()
        west, south, east, north = about["bounds"]
        assert rows.total_bounds == pytest.approx(about["bounds"], abs=1e-5)
        names = [layer["id"] for layer in about["vector_layers"]]
        assert names == ["buildings", "building_counts"]
        found = []
        for x, y in tiles_over(west, south, east, north, zoom):
            address = about["tiles"][0].format(z=zoom, x=x, y=y)
            answer = await service.get(address, "reader")
            assert answer.headers["content-type"] == "application/vnd.mapbox-vector-tile"
            if answer.content:
                found.append(read_tile(answer.content, (zoom, x, y), tmp_path))
        parts = pd.concat(found)
        for n, (column, value) in enumerate(same_columns(parts, rows)):
            assert column == value, n
        assert outlines_are_near(parts, rows)
        (x, y), *_ = tiles_over(west, south, east, north, 9)
        far = (await service.get(f"/runs/night/tiles/9/{x}/{y}.mvt", "reader")).content
        squares = read_tile(far, (9, x, y), tmp_path, "building_counts")
        assert squares["buildings"].sum() == len(rows)
        assert squares["assessed"].sum() == (rows["status"] == "assessed").sum()
        assert squares["destroyed"].sum() == (rows["damage_label"] == "destroyed").sum()
        assert (await service.get("/runs/night/tiles/9/0/0", "reader")).content == b""

    with_service(use, maps={"night": night.out})


def tiles_over(
    west: float, south: float, east: float, north: float, zoom: int
) -> list[tuple[int, int]]:
    """(x, y) of the tiles over a rectangle."""

    def place(lon: float, lat: float) -> tuple[int, int]:
        across = math.asinh(math.tan(math.radians(lat))) / math.pi
        return int((lon / 360 + 0.5) * 2**zoom), int((1 - across) / 2 * 2**zoom)

    (left, top), (right, low) = place(west, north), place(east, south)
    return [(x, y) for x in range(left, right + 1) for y in range(top, low + 1)]


def read_tile(
    data: bytes, place: tuple[int, int, int], folder: Path, layer: str = "buildings"
) -> gpd.GeoDataFrame:
    path = folder / "tile.mvt"
    path.write_bytes(data)
    z, x, y = map(str, place)
    return pyogrio.read_dataframe(f"MVT:{path}", layer=layer, Z=z, X=x, Y=y, CLIP="NO")


def same_columns(found: gpd.GeoDataFrame, rows: gpd.GeoDataFrame) -> Iterator[tuple[Any, Any]]:
    """Values of the tiles beside those of the table."""
    yield set(found["building_id"]), set(rows.index)
    names = ["status", "reason", "damage_label", "p_destroyed"]
    once = found.drop_duplicates("building_id").set_index("building_id").loc[rows.index]
    once = once.reindex(columns=names)  # GDAL has no column of what no feature has
    for name in names:
        one, other = once[name], rows[name]
        if name.startswith("p_"):
            one, other = one.astype(float).round(3), other.astype(float).round(3)
        yield (
            [None if v != v else v for v in one.astype(object).where(one.notna(), None)],
            [None if v != v else v for v in other.astype(object).where(other.notna(), None)],
        )


def outlines_are_near(found: gpd.GeoDataFrame, rows: gpd.GeoDataFrame) -> bool:
    """True if the parts of each building make its outline to within two units, 0.15 m."""
    whole = found.dissolve("building_id").geometry
    true = rows.geometry.to_crs(3857).loc[whole.index].to_numpy()
    apart = shapely.symmetric_difference(whole.to_numpy(), true)
    return bool(shapely.is_empty(shapely.buffer(apart, -0.08)).all())


def test_links_name_the_address_of_the_settings(
    with_service: Callable[..., Any], night: Result
) -> None:
    url = "https://maps.example.org/quakes"

    async def use(service: Service) -> None:
        landing = (await service.get("/", "reader")).json()
        assert {link["href"].startswith(f"{url}/") for link in landing["links"]} == {True}
        about = (await service.get("/runs/night/tiles?x=1", "reader")).json()
        assert about["tiles"] == [f"{url}/runs/night/tiles/{{z}}/{{x}}/{{y}}"]
        scene = (await service.get("/runs/night/scenes", "reader")).json()["scenes"][0]
        assert scene["preview"].startswith(f"{url}/runs/night/scenes/")

    with_service(use, maps={"night": night.out}, url=f"{url}/", bundles=[])


def test_tiles_that_are_none(with_service: Callable[..., Any], night: Result) -> None:
    async def use(service: Service) -> None:
        for tile in (
            *("23/0/0", "9/512/0", "9/0/512", "-1/0/0", "1/0/0.png", "1/0", "1/0/0/0", "a/b/c"),
            *("1.0/0/0", "9/1e2/0", "\u0661/0/0", "99999999999999999999/0/0", "%2e%2e/0/0"),
            "..%2f..%2f/run.json/0",
        ):
            is_problem(await service.get(f"/runs/night/tiles/{tile}", "reader"), 404)
        is_problem(await service.client.get("/runs/night/tiles/1/0/0"), 401)
        is_problem(await service.get("/runs/another/tiles/1/0/0", "reader"), 404)

    with_service(use, maps={"night": night.out})


def test_previews_of_scenes_by_run_and_id(with_service: Callable[..., Any], night: Result) -> None:
    west, south, east, north = night.buildings.total_bounds
    middle = ((west + east) / 2, (south + north) / 2)
    elsewhere = "url=file:///etc/passwd"

    async def use(service: Service) -> None:
        scenes = (await service.get("/runs/night/scenes", "reader")).json()["scenes"]
        assert {s["id"] for s in scenes} == {s["id"] for s in night.run["inputs"]["scenes"]}
        zoom = scenes[0]["maxzoom"] - 4
        ((x, y),) = tiles_over(*middle, *middle, zoom)
        for scene in scenes:
            tile = await service.get(scene["tiles"][0].format(z=zoom, x=x, y=y), "reader")
            assert tile.headers["content-type"] == "image/webp"
            picture = np.asarray(Image.open(io.BytesIO(tile.content)).convert("RGBA"))
            assert picture.shape == (256, 256, 4)
            assert (picture[..., 3] == 255).all()
            assert picture[..., :3].std() > 5
            (lon, lat), pad = middle, 0.0002
            ends = {"west": lon, "south": lat, "east": lon + pad, "north": lat + pad}
            preview = await service.get(scene["preview"].format(**ends), "reader")
            assert min(Image.open(io.BytesIO(preview.content)).size) > 64
            is_problem(await service.client.get(scene["tiles"][0].format(z=1, x=0, y=0)), 401)
        one = f"/runs/night/scenes/{scenes[0]['id']}"
        for path in (
            *(f"{one}/tiles/1/0/0", f"{one}/tiles/a/0/0", f"{one}/preview?bounds=0,0,9,9"),
            *(f"/runs/night/scenes/x/tiles/{zoom}/{x}/{y}?{elsewhere}", "/runs/other/scenes"),
            f"/runs/night/scenes/..%2f..%2f/tiles/{zoom}/{x}/{y}",
        ):
            is_problem(await service.get(path, "reader"), 404)
        same = await service.get(f"{one}/tiles/{zoom}/{x}/{y}?{elsewhere}", "reader")
        first = await service.get(f"{one}/tiles/{zoom}/{x}/{y}", "reader")
        assert same.content == first.content

    with_service(use, maps={"night": night.out})


def test_engines_stay_open_between_jobs(
    with_service: Callable[..., Any], aoi: dict[str, Any]
) -> None:
    async def use(service: Service) -> None:
        backend = service.services._mapper._backend
        opened = []
        for _ in range(2):
            job = (await service.map({"aoi": aoi})).json()["jobID"]
            assert (await service.ended(job))["status"] == "successful"
            opened.append([id(engine) for engine in backend._engines.values()])
        assert len(opened[0]) == 1
        assert opened[0] == opened[1]

    with_service(use)


def test_health_is_looked_at_once_in_a_while(with_service: Callable[..., Any]) -> None:
    """It needs no token: who asks often must not keep the engines busy."""

    async def use(service: Service) -> None:
        counted = Counted(service.services)
        health = Health(counted.check, every_s=0.2)
        await asyncio.gather(*(health.check() for _ in range(5)))
        assert counted.count == 1
        await asyncio.sleep(0.25)
        counted.fails = True
        for _ in range(3):
            with pytest.raises(RequestError):
                await health.check()
        assert counted.count == 2

    with_service(use, bundles=[])


@dataclass(slots=True)
class Counted:
    """Counts the checks of some services."""

    services: LocalServices
    count: int = 0
    fails: bool = False

    async def check(self) -> None:
        self.count += 1
        await self.services.check()
        if self.fails:
            raise RequestError("a bundle is broken")


def test_no_other_way_past_the_token(
    with_service: Callable[..., Any], night: Result, tokens: Tokens
) -> None:
    secret = tokens.secret["ada"]
    headers: list[Any] = [
        {"X-Original-URL": "/healthz"},
        {"X-Rewrite-URL": "/healthz", "X-HTTP-Method-Override": "GET"},
        {"Cookie": f"token={secret}", "X-Forwarded-For": "127.0.0.1"},
        {"Proxy-Authorization": f"Bearer {secret}"},
        [("Authorization", "Bearer wrong"), ("Authorization", f"Bearer {secret}")],
        {"Authorization": f"bearer  {secret}x"},
        {"Authorization": f"Bearer {secret[:-1]}"},
        {"Authorization": "Bearer \u00ff".encode("latin-1")},
        {"Authorization": f"Bearer {secret}, Bearer {secret}"},
    ]

    async def use(service: Service) -> None:
        for given in headers:
            for path in ("/jobs", "/runs/night/run.json", f"/jobs?token={secret}"):
                assert (await service.client.get(path, headers=given)).status_code == 401
        for path in (
            *(
                "/healthz/../jobs",
                "//jobs",
                "/jobs/",
                "/JOBS",
                "/healthz;/jobs",
                "/healthz%2f..%2fjobs",
            ),
            *("/healthz/", "/.%2e/jobs", "/runs/night//run.json", "/view/x/run.json"),
        ):
            answer = await service.client.get(path)
            assert answer.status_code in (307, 401, 404), path
            assert b"jobID" not in answer.content
        for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH"):
            answer = await service.client.request(method, "/jobs")
            assert answer.status_code in (401, 405)
            assert "access-control-allow-origin" not in answer.headers

    with_service(use, maps={"night": night.out})


def test_links_end_and_name_one_map(with_service: Callable[..., Any], aoi: dict[str, Any]) -> None:
    async def use(service: Service) -> None:
        job = (await service.map({"aoi": aoi})).json()["jobID"]
        await service.ended(job)
        href = (await service.get(f"/jobs/{job}/results")).json()["links"][0]["href"]
        assert (await service.client.get(f"{href}run.json")).status_code == 200
        signed = href.rstrip("/").rsplit("/", 1)[1]
        other = service.context.links.sign("x").split(".", 1)[1]
        moved = f"{signed.split('.', 1)[0]}.{other}"
        for wrong in (moved, "x", signed.split(".", 1)[0], signed[: len(signed) // 2]):
            is_problem(await service.client.get(f"/view/{wrong}/run.json"), 401)

    with_service(use)
