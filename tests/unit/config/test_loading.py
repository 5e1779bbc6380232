"""The run file: what is accepted, what is refused and how well that is said."""

import datetime as dt
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from quakestream.config import (
    DEFAULT_DAMAGE_MODEL,
    aoi_bbox,
    aoi_kind,
    open_run,
    parse_interval,
    parse_run,
    run_schema,
)
from quakestream.config.template import RunDraft, run_template
from quakestream.errors import ConfigError

CONTRACT = """\
event:     {id: kahramanmaras-2023, time: 2023-02-06T01:17:34Z}
aoi:       aoi.geojson
imagery:
  catalog: s3://bucket/catalog.json
  asset:   visual
  post:    {datetime: 2023-02-06/2023-03-01, max_cloud: 60, max_off_nadir: 40}
  pre:     {datetime: 2018-01-01/2023-02-05}
  views:   best
  store:   s3://bucket/tiles.zarr
footprints: {path: buildings.parquet, id: id}
hazard:
  shakemaps: [us6000jllz/grid.xml, us6000jlqa/grid.xml]
  vs30: vs30.tif
  layers: {dpm: dpm.tif, sar_vv: vv.tif, sar_vh: vh.tif}
terrain:   {dem: dem.tif}
models:    {damage: BUNDLE, landslide: ./folder, hazard: bundle.zip, share: auto}
summary:   {admin: districts.gpkg, id: name}
profile:   rapid
out:       s3://bucket/runs/kahramanmaras
storage:   {s3: {endpoint_url: "http://127.0.0.1:9000", anon: true}}
"""

SMALL = """\
event: {id: e, time: 2023-02-06T01:17:34Z}
aoi: 36.92,37.57,36.94,37.59
imagery: {catalog: catalog.json, post: {datetime: 2023-02-07}}
footprints: {path: b.parquet}
"""


def test_the_contracts_example_loads_with_its_paths_made_absolute(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(CONTRACT)
    run = open_run(file)
    assert run.event.time == dt.datetime(2023, 2, 6, 1, 17, 34, tzinfo=dt.UTC)
    assert run.aoi == str(tmp_path / "aoi.geojson")
    assert run.imagery.catalog == "s3://bucket/catalog.json"
    assert run.hazard.shakemaps == [
        str(tmp_path / "us6000jllz/grid.xml"),
        str(tmp_path / "us6000jlqa/grid.xml"),
    ]
    assert run.hazard.layers["sar_vv"] == str(tmp_path / "vv.tif")
    assert run.models.damage == "BUNDLE"
    assert run.models.landslide == str(tmp_path / "folder")
    assert run.models.hazard == str(tmp_path / "bundle.zip")
    assert run.out == "s3://bucket/runs/kahramanmaras"
    assert run.storage_options.of("s3://x")["anon"] is True
    assert run.source == str(file)


def test_what_is_left_out_has_its_default() -> None:
    run = parse_run(SMALL, "/data/run.yaml")
    assert run.models.damage == DEFAULT_DAMAGE_MODEL
    assert run.imagery.asset == "visual"
    assert run.imagery.pre is None
    assert run.out is None
    assert run.hazard.shakemaps == []
    assert run.profile == "rapid"
    assert (run.profile_settings.cell_windows, run.profile_settings.group_cells) == (4, 4)


def test_a_run_file_may_lie_in_a_store_and_its_paths_follow_it() -> None:
    fsspec.filesystem("memory").pipe_file("/runs/a/run.yaml", SMALL.encode())
    run = open_run("memory://runs/a/run.yaml")
    assert run.footprints.path == "memory://runs/a/b.parquet"
    assert run.imagery.catalog == "memory://runs/a/catalog.json"


def test_a_catalogue_may_be_a_list_of_files() -> None:
    text = SMALL.replace("catalog.json", "[a.tif, 'http://h/b.tif']")
    assert parse_run(text, "/d/run.yaml").imagery.catalog == ["/d/a.tif", "http://h/b.tif"]


@pytest.mark.parametrize(
    ("broken", "line", "words"),
    [
        ("max_cloud: 60|max_clod: 60", 6, ("imagery.post.max_clod", "did you mean 'max_cloud'?")),
        ("footprints:|footprint:", 10, ("footprint", "did you mean 'footprints'?")),
        ("profile:   rapid|profile: fast", 18, ("profile", "'standard'", "got 'fast'")),
        ("asset:   visual|asset: 12", 5, ("imagery.asset", "got 12", "put it in quotes")),
        ("max_cloud: 60|max_cloud: '60'", 6, ("max_cloud", "without quotes")),
        ("max_cloud: 60|max_cloud: 160", 6, ("max_cloud", "at most 100", "got 160")),
        ("T01:17:34Z|T01:17:34", 1, ("event.time", "no time zone", "T01:17:34Z", "+03:00")),
        ("2023-02-06/2023-03-01|2023-02-06/soon", 6, ("imagery.post.datetime", "'soon'")),
        ("2023-02-06/2023-03-01|2023-03-01/2023-02-06", 6, ("ends before it begins",)),
        ("s3://bucket/catalog|ftp://bucket/catalog", 4, ("catalog", "got ftp://")),
        ("anon: true|secret: abc", 20, ("storage.s3.secret", "credential", "environment")),
        ("anon: true|client_kwargs: {awsSecretAccessKey: abc}", 20, ("credential",)),
        ("{s3: {|{s33: {", 20, ("storage.s33", "unknown protocol", "got s33")),
        ("dpm: dpm.tif|damage: dpm.tif", 14, ("hazard.layers", "column of the product")),
        ("dpm: dpm.tif|pre_post_difference: d.tif", 14, ("hazard.layers", "column of the product")),
        ("dpm: dpm.tif|a b: dpm.tif", 14, ("hazard.layers", "'a b'")),
        ("aoi.geojson|170,10,171,95", 2, ("aoi", "south < north")),
        ("aoi.geojson|36.928,37.577,36.924,37.58", 2, ("aoi", "swap the first and the third")),
        ("asset:   visual|catalog: twice.json", 5, ("catalog", "stands twice", "line 4")),
        ("vs30: vs30.tif|12: vs30.tif", 13, ("hazard.12", "quotes")),
        ("share: auto|share: 0", 16, ("models.share", "above 0 and below 1", "got 0")),
        ("share: auto|share: 1", 16, ("models.share", "above 0 and below 1", "estimated")),
        ("share: auto|share: 2.5", 16, ("models.share", "write 0.025 for 2.5 per cent")),
        ("share: auto|share: -0.1", 16, ("models.share", "got -0.1; leave the key out")),
        ("share: auto|share: 20%", 16, ("models.share", "got '20%'; write 0.2 for 20 per cent")),
        ("share: auto|share: 'much'", 16, ("models.share", "{layer: NAME}", "got 'much'")),
        ("share: auto|share: true", 16, ("models.share", "{layer: NAME}", "got True")),
        ("share: auto|share: {layers: dpm}", 16, ("models.share", "got {layers}")),
        ("share: auto|share: {layer: fell}", 16, ("models.share.layer", "(dpm,", "'fell'")),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_to_do(
    broken: str, line: int, words: tuple[str, ...]
) -> None:
    old, new = broken.split("|")
    assert old in CONTRACT
    with pytest.raises(ConfigError) as caught:
        parse_run(CONTRACT.replace(old, new), "run.yaml")
    message = str(caught.value)
    assert message.startswith("run.yaml, ")
    assert f"line {line}, " in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("ftp://h/dem.tif", "unknown scheme: expected a path or a URI of s3, gs, az, http, https"),
        ("'http://[::1/dem.tif'", "not an address: expected https://host/file, got http://[::1/d"),
    ],
)
def test_a_key_of_several_kinds_is_named_once_as_it_is_written(place: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(f"{SMALL}\nterrain: {{dem: {place}}}\n", "run.yaml")
    (problem,) = caught.value.problems
    assert problem.where.endswith(", terrain.dem")
    assert said in str(problem)


def test_a_layer_may_bear_the_name_of_a_measure() -> None:
    text = CONTRACT.replace("dpm: dpm.tif", "pga_g: pga.tif, vs30_m_s: v.tif")
    layers = parse_run(text, "/d/run.yaml").hazard.layers
    assert (layers["pga_g"], layers["vs30_m_s"]) == ("/d/pga.tif", "/d/v.tif")


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        CONTRACT.replace("max_cloud", "max_clod").replace("rapid", "fast").replace(", id: id", "")
    )
    text = text.replace("path: buildings", "pth: buildings")
    with pytest.raises(ConfigError) as caught:
        parse_run(text, "run.yaml")
    assert [problem.where for problem in caught.value.problems] == [
        "run.yaml, line 6, imagery.post.max_clod",
        "run.yaml, line 10, footprints.path",
        "run.yaml, line 10, footprints.pth",
        "run.yaml, line 18, profile",
    ]
    assert len(str(caught.value).splitlines()) == 4


def test_a_refused_secret_is_not_repeated() -> None:
    text = CONTRACT.replace("anon: true", "aws_secret_access_key: hunter2hunter2")
    with pytest.raises(ConfigError) as caught:
        parse_run(text, "run.yaml")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse_run(SMALL.replace("b.parquet", "'https://me:hunter2@h/b.parquet'"), "run.yaml")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("empty file", "quakestream init")),
        ("- a\n- b\n", ("got a list",)),
        ("event: {id: [}\n", ("line 1", "not valid YAML")),
        ("event:\n\tid: x\n", ("line 2", "not valid YAML")),
        ("event: {id: x, time: 2023-02-31T00:00:00Z}\n", ("not valid YAML",)),
        ("a: !!python/object/apply:os.system [ls]\n", ("not valid YAML",)),
    ],
)
def test_what_is_no_run_file_says_where(text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(text, "run.yaml")
    for word in words:
        assert word in str(caught.value)


BOMB = "storage:\n  s3:\n    a0: &a0 {x: 1}\n" + "".join(
    f"    a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}, r: *a{n - 1}}}\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aoi: " + "[" * 20_000, "sections inside each other"),
        ("aoi: " + "[" * 20_000 + "]" * 20_000, "sections inside each other"),
        ("{a: " * 20_000, "sections inside each other"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "sections inside each other"),
        ("storage: &a\n  s3: *a\n", "line 1: a section holds itself"),
        ("storage: {s3: &a [1, {x: *a}]}", "a section holds itself"),
        ("&a [*a]", "a section holds itself"),
        ("? &a [*a]\n: 1", "a section holds itself"),
        (BOMB, "aliases stand for too many values"),
        (BOMB.replace("storage", "hazard"), "aliases stand for too many values"),
        ("a: " + "x" * (5 << 20), "a larger file"),
    ],
)
def test_a_run_file_that_would_never_end_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        open_run(tmp_path / "run.yaml")


def test_aliases_that_stand_for_few_values_are_yaml_like_any_other() -> None:
    text = SMALL.replace("{datetime: 2023-02-07}", "&when {datetime: 2023-02-07}")
    text += "storage: {s3: &one {anon: true}, gs: *one}\n"
    assert parse_run(text, "run.yaml").storage == {"s3": {"anon": True}, "gs": {"anon": True}}


def test_a_missing_or_unreadable_run_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no run file; `quakestream init"):
        open_run(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        open_run(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00event")
    with pytest.raises(ConfigError, match="UTF-8"):
        open_run(tmp_path / "binary.yaml")
    with pytest.raises(ConfigError, match=r"memory://nowhere/run\.yaml: no run file"):
        open_run("memory://nowhere/run.yaml")


def test_epochs_on_the_wrong_side_of_the_event_are_refused() -> None:
    early = SMALL.replace("2023-02-07", "2022-01-01/2022-02-01")
    with pytest.raises(ConfigError, match="post scenes are taken after the event"):
        parse_run(early, "run.yaml")
    late = SMALL.replace("2023-02-07}", "2023-02-07}, pre: {datetime: 2023-03-01/..}")
    with pytest.raises(ConfigError, match="pre scenes are taken before the event"):
        parse_run(late, "run.yaml")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2023-02-06/2023-03-01", "2023-02-06T00:00:00+00:00", "2023-03-01T23:59:59.999999+00:00"),
        ("2023-02-07", "2023-02-07T00:00:00+00:00", "2023-02-07T23:59:59.999999+00:00"),
        ("2023-02-06T04:17:34+03:00/..", "2023-02-06T01:17:34+00:00", None),
        ("../2023-02-06T01:17:34Z", None, "2023-02-06T01:17:34+00:00"),
        ("2023-02-06T10:00:00Z", "2023-02-06T10:00:00+00:00", "2023-02-06T10:00:00+00:00"),
    ],
)
def test_intervals_mean_whole_utc_days(text: str, start: str | None, end: str | None) -> None:
    first, last = parse_interval(text)
    assert first == (dt.datetime.fromisoformat(start) if start else parse_interval("../..")[0])
    assert last == (dt.datetime.fromisoformat(end) if end else parse_interval("../..")[1])
    # Open ends compare with a time in any zone.
    assert first < dt.datetime(2023, 2, 28, tzinfo=dt.timezone(dt.timedelta(hours=14))) or last


def test_a_bare_yaml_date_and_time_are_intervals() -> None:
    assert parse_run(SMALL, "r").imagery.post.datetime == "2023-02-07"
    moment = parse_run(SMALL.replace("2023-02-07", "2023-02-07T10:00:00Z"), "r").imagery.post
    assert moment.start == moment.end == dt.datetime(2023, 2, 7, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("aoi", "kind"),
    [
        ("36.9,37.5,37.0,37.6", "bbox"),
        ("-1e1, 2,+3,4.", "bbox"),
        ("POLYGON ((0 0, 1 0, 1 1, 0 0))", "wkt"),
        ("multipolygon z (((0 0 1, 1 0 1, 1 1 1, 0 0 1)))", "wkt"),
        ("polygons.geojson", "place"),
        ("POLYGON.gpkg", "place"),
        ("1,2,3", "place"),
    ],
)
def test_an_aoi_is_told_by_its_form(aoi: str, kind: str) -> None:
    assert aoi_kind(aoi) == kind


def test_an_aoi_may_be_a_list_of_degrees_and_may_cross_the_antimeridian() -> None:
    run = parse_run(SMALL.replace("36.92,37.57,36.94,37.59", "[179.5, -17, -179.5, -16]"), "r")
    assert aoi_bbox(run.aoi) == (179.5, -17.0, -179.5, -16.0)


def test_the_profile_is_the_dial_and_execution_overrides_it() -> None:
    thorough = parse_run(SMALL + "profile: exhaustive\n", "r")
    assert thorough.imagery.views == thorough.profile_settings.views == "all"
    pinned = parse_run(
        SMALL.replace("catalog:", "views: best, catalog:") + "profile: exhaustive\n", "r"
    )
    assert pinned.imagery.views == pinned.profile_settings.views == "best"
    assert [
        parse_run(SMALL + f"profile: {name}\n", "r").models.damage
        for name in ("rapid", "standard", "exhaustive")
    ] == ["damage-turkiye-2023", "damage-context-2023", "damage-context-2023"]
    named = parse_run(SMALL + "profile: standard\nmodels: {damage: ./own}\n", "/d/r")
    assert named.models.damage == "/d/own"
    slides = "profile: standard\nmodels: {damage: null, landslide: ./own}\n"
    assert parse_run(SMALL + slides, "r").models.damage is None
    tuned = parse_run(SMALL + "execution: {cell_windows: 2, runtime: uniform}\n", "r")
    assert tuned.profile_settings.cell_windows == 2
    assert tuned.profile_settings.group_cells == 4
    assert tuned.profile_settings.runtime == "uniform"


def test_the_digest_is_of_what_decides_the_map() -> None:
    base = parse_run(SMALL, "/d/run.yaml").digest()
    same = [
        SMALL + "out: elsewhere\n",
        SMALL + "execution: {group_cells: 1}\n",
        SMALL + "profile: standard\nmodels: {damage: damage-turkiye-2023}\n",
        SMALL + "outputs: []\n",
        SMALL + "models: {share: auto}\n",
        SMALL.replace("01:17:34Z", "04:17:34+03:00"),
        SMALL.replace("2023-02-07", "2023-02-07/2023-02-07"),
        "".join(reversed(SMALL.splitlines(keepends=True))),
    ]
    other = [
        SMALL.replace("id: e", "id: f"),
        SMALL.replace("01:17:34Z", "01:17:35Z"),
        SMALL.replace("b.parquet", "c.parquet"),
        SMALL + "profile: standard\n",
        SMALL + "profile: exhaustive\n",
        SMALL + "outputs: [scores]\n",
        SMALL + "hazard: {vs30: v.tif}\n",
        SMALL + "models: {damage: damage-synthetic}\n",
        SMALL + "models: {share: 0.02}\n",
        SMALL + "models: {share: 0.03}\n",
        SMALL + "models: {share: {layer: fell}}\nhazard: {layers: {fell: f.tif}}\n",
    ]
    assert {parse_run(text, "/d/run.yaml").digest() for text in same} == {base}
    digests = {parse_run(text, "/d/run.yaml").digest() for text in other}
    assert len(digests) == len(other)
    assert base not in digests
    assert parse_run(SMALL, "/elsewhere/run.yaml").digest() != base


def test_terrain_alone_keeps_its_digest_and_layers_of_the_prior_change_it() -> None:
    named = SMALL + "models: {damage: damage-turkiye-2023}\n"
    run = parse_run(named + "terrain: {dem: dem.tif}\n", "/d/run.yaml")
    assert run.digest() == "b7ce0d27983e73c15a4c08d4d48f3eb88a46f4e18748fd3ac729ee776bc7fe9c"
    assert run.terrain is not None
    assert not run.terrain.has_prior
    layers = "dem: dem.tif, lithology: l.tif, landcover: c.tif, cti: t.grd"
    prior = parse_run(SMALL + f"terrain: {{{layers}}}\n", "/d/run.yaml")
    assert prior.terrain is not None
    assert prior.terrain.has_prior
    assert prior.terrain.cti == "/d/t.grd"
    assert prior.digest() != run.digest()


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ("lithology: l.tif", "got no landcover, no cti"),
        ("landcover: l.tif, cti: c.tif", "got no lithology"),
        ("stddev: s.tif", "got no lithology, no landcover, no cti"),
        ("slope: g.tif", "got no lithology, no landcover, no cti"),
    ],
)
def test_layers_of_the_prior_go_together(keys: str, missing: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(SMALL + f"terrain: {{dem: dem.tif, {keys}}}\n", "/d/run.yaml")
    assert "expected lithology, landcover and cti together" in str(caught.value)
    assert missing in str(caught.value)


def test_a_run_without_outputs_keeps_the_digest_it_had_before_there_were_any() -> None:
    digest = "e2707b21204f53ac36d56c42b6818922e1bfc6995ddd9cea2738dd9869cc0a9b"
    named = SMALL + "models: {damage: damage-turkiye-2023}\n"
    assert parse_run(named, "/d/run.yaml").digest() == digest


@pytest.mark.parametrize("outputs", ["[scores]", "[scores, scores]", "{scores: true}"])
def test_products_are_asked_for_by_name(outputs: str) -> None:
    run = parse_run(SMALL + f"outputs: {outputs}\n", "/d/run.yaml")
    assert run.outputs == ("scores",)
    assert pickle.loads(pickle.dumps(run)).outputs == ("scores",)
    assert parse_run(SMALL + "outputs: {scores: false}\n", "/d/run.yaml").outputs == ()


@pytest.mark.parametrize(
    ("outputs", "where", "words"),
    [
        ("[score]", "outputs", "unknown product: got 'score'; products that work: scores"),
        ("scores", "outputs", "expected a list of products, got 'scores'"),
        ("{scores: 1}", "outputs.scores", "expected true or false, got 1"),
    ],
)
def test_products_that_cannot_be_made_are_refused(outputs: str, where: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_run(SMALL + f"outputs: {outputs}\n", "run.yaml")
    assert caught.value.where == f"run.yaml, line 5, {where}"
    assert words in str(caught.value)


def test_a_run_travels_to_workers_and_cannot_be_changed() -> None:
    run = parse_run(CONTRACT, "/d/run.yaml")
    copy = pickle.loads(pickle.dumps(run))
    assert (copy, copy.source, copy.digest()) == (run, run.source, run.digest())
    with pytest.raises(ValueError, match="frozen"):
        run.event.id = "other"  # type: ignore[misc]


def test_the_template_loads_as_it_is_and_with_every_section_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(run_template())
    run = open_run(file)
    assert run.event.id == "kahramanmaras-2023"
    assert run.hazard.vs30 is None
    full = _uncommented(run_template())
    file.write_text(full)
    run = open_run(file)
    assert run.hazard.layers
    assert run.terrain
    assert run.summary
    assert run.storage
    assert run.execution.runtime == "auto"
    assert run.models.hazard is not None
    assert run.outputs == ("scores", "gpkg", "kml")


def _uncommented(text: str) -> str:
    """The template with what looks like YAML behind a `#` made YAML."""
    lines = []
    for line in text.splitlines():
        bare = line.strip()
        looks_like_a_key = bare.startswith("#") and bare.lstrip("# ").split(":")[0].isidentifier()
        known = bare.lstrip("# ").split(":")[0] in _keys(run_schema())
        lines.append(line.replace("# ", "", 1) if looks_like_a_key and known else line)
    return "\n".join(lines)


def _keys(schema: dict[str, Any]) -> set[str]:
    names = {"s3"}
    if isinstance(schema, dict):
        names |= set(schema.get("properties", {}))
        for definition in schema.get("$defs", {}).values():
            names |= set(definition.get("properties", {}))
    return names


def test_the_template_explains_every_key_of_the_schema() -> None:
    full = yaml.safe_load(_uncommented(run_template()))
    schema = run_schema()

    def walk(content: Any, node: dict[str, Any], where: str) -> None:
        ref = next(
            (part["$ref"] for part in [node, *node.get("anyOf", [])] if "$ref" in part),
            None,
        )
        section = schema["$defs"][str(ref).rpartition("/")[2]] if ref else node
        for key, inner in section.get("properties", {}).items():
            assert isinstance(content, dict), where
            assert key in content, f"{where}.{key} is not in the template"
            walk(content[key], inner, f"{where}.{key}")

    walk(full, schema, "run")


def test_the_schema_is_strict_and_describes_every_key() -> None:
    schema = json.loads(json.dumps(run_schema()))
    for name, section in {"RunFile": schema, **schema["$defs"]}.items():
        assert section["additionalProperties"] is False, name
        for key, inner in section["properties"].items():
            assert "description" in inner or "$ref" in json.dumps(inner), f"{name}.{key}"


def test_what_is_not_known_is_left_blank_and_refused_by_name() -> None:
    text = run_template(RunDraft(time="", post="", pre="", notes=("found: nothing",)))
    with pytest.raises(ConfigError, match=r"event\.time") as caught:
        parse_run(text, "run.yaml")
    assert "imagery.post.datetime" in str(caught.value)


def test_landslides_without_footprints_are_told_how_to_leave_damage_out() -> None:
    run = "event: {id: a, time: 2023-02-06T01:17:34Z}\naoi: '1,2,3,4'\n"
    run += "imagery: {catalog: c, post: {datetime: 2023-02-06/..}}\n"
    with pytest.raises(ConfigError) as caught:
        parse_run(run + "models: {landslide: landslide-rgb}", "run.yaml")
    assert caught.value.remedy.endswith("write models: {damage: null, landslide: landslide-rgb}")
    assert parse_run(run + "models: {damage: null, landslide: landslide-rgb}", "run.yaml").where_of(
        "models", "landslide"
    ) == ("run.yaml, line 4, models.landslide")
    with pytest.raises(ConfigError, match=r"number between 0 and 1, .* got nothing$"):
        parse_run(run + "models: {damage: null, share: null}", "run.yaml")
