"""A catalogue out of images alone, and what is read back from it."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import typer
from affine import Affine
from pystac.extensions.eo import EOExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from typer.testing import CliRunner

from quakestream.catalog import read_aoi, read_times, search, write_catalogue
from quakestream.cli.catalog import catalog
from quakestream.config import EpochFilter, ImagerySection
from quakestream.errors import RequestError

WORLD = read_aoi("-180,-90,180,90")


def image(
    path: Path, tag: str | None = None, crs: str | None = "EPSG:32637", bands: int = 3
) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(0.5, 0, 300000, 0, -0.5, 4110000) if crs else Affine.identity()
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, count=bands, dtype="uint8", crs=crs,
        transform=transform, photometric="RGB" if bands == 3 else "MINISBLACK",
    ) as sink:  # fmt: skip
        sink.write(np.full((bands, 30, 40), 9, np.uint8))
        if tag:
            sink.update_tags(TIFFTAG_DATETIME=tag)
    return str(path)


def found_in(catalog_path: str | list[str], asset: str = "visual"):  # type: ignore[no-untyped-def]
    post, pre = EpochFilter(datetime="2023-02-06/.."), EpochFilter(datetime="../2023-02-05")
    section = ImagerySection(catalog=catalog_path, asset=asset, post=post, pre=pre)
    return search(section, WORLD)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_times_come_from_csv_then_tag_then_name(tmp_path: Path) -> None:
    images = [
        image(tmp_path / "tagged.tif", "2023:02:07 08:38:42"),
        image(tmp_path / "named_2021-04-03.tif"),
        image(tmp_path / "both_20230207.tif", "2025:01:01 00:00:00"),
        image(tmp_path / "told.tif"),
        image(tmp_path / "undated.tif"),
        image(tmp_path / "two_20210403_20230207.tif"),
        image(tmp_path / "nowhere_20230207.tif", crs=None),
        str(tmp_path / "missing_20230207.tif"),
    ]
    (tmp_path / "times.csv").write_text(
        "file,datetime\ntold.tif, 2023-02-09T10:00:00+03:00\nother.tif,2023-01-01\n"
    )
    times = read_times(str(tmp_path / "times.csv"))
    written = write_catalogue(images, str(tmp_path / "stac"), times)
    causes = {Path(issue.subject).name: issue.cause for issue in written.issues}
    assert "image has no date" in causes["undated.tif"]
    assert "quakestream catalog *.tif --times FILE.csv -o stac" in causes["undated.tif"]
    assert (
        "several dates: expected one, got 2021-04-03, 2023-02-07"
        in causes["two_20210403_20230207.tif"]
    )
    assert "no georeference" in causes["nowhere_20230207.tif"]
    assert "cannot open" in causes["missing_20230207.tif"]
    assert "none of the images" in causes["other.tif"]
    assert len(causes) == 5
    assert written.notes == (
        "both_20230207: TIFFTAG_DATETIME 2025:01:01 00:00:00 contradicts the date in the name; "
        "the name is used",
    )
    found = found_in(written.path)
    when = {s.id: s.datetime.isoformat() for s in found.post + found.pre}
    assert when == {
        "tagged": "2023-02-07T08:38:42+00:00",
        "told": "2023-02-09T07:00:00+00:00",
        "both_20230207": when["both_20230207"],
        "named_2021-04-03": when["named_2021-04-03"],
    }
    assert when["both_20230207"].startswith("2023-02-07T")
    assert [s.id for s in found.pre] == ["named_2021-04-03"]


def test_the_catalogue_is_stac_as_pystac_reads_it(tmp_path: Path) -> None:
    source = image(tmp_path / "img" / "a_20230207.tif")
    image(tmp_path / "other" / "a_20230207.tif")
    grey = image(tmp_path / "img" / "grey_20230207.tif", bands=1)
    written = write_catalogue(
        [source, str(tmp_path / "other" / "a_20230207.tif"), grey], str(tmp_path / "stac")
    )
    assert written.item_ids == ("a_20230207", "a_20230207-2", "grey_20230207")
    root = pystac.Catalog.from_file(written.path)
    items = {item.id: item for item in root.get_items()}
    assert set(items) == set(written.item_ids)
    item = items["a_20230207"]
    asset = item.assets["visual"]
    assert asset.href == "../../img/a_20230207.tif"
    assert asset.get_absolute_href() == source
    assert list(items["grey_20230207"].assets) == ["data"]
    projection = ProjectionExtension.ext(item)
    assert projection.code == "EPSG:32637"
    assert projection.shape == [30, 40]
    assert projection.transform == [0.5, 0, 300000, 0, -0.5, 4110000]
    data = Path(source).read_bytes()
    assert FileExtension.ext(asset).size == len(data)
    assert FileExtension.ext(asset).checksum == "1220" + hashlib.sha256(data).hexdigest()
    assert EOExtension.has_extension(item)
    bands = asset.to_dict()["bands"]
    assert [band["eo:common_name"] for band in bands] == ["red", "green", "blue"]
    raw = json.loads((tmp_path / "stac/a_20230207/a_20230207.json").read_text())
    assert (
        item.to_dict(include_self_link=False, transform_hrefs=False)["properties"]
        == (raw["properties"])
    )
    assert raw["stac_version"] == "1.1.0"


def test_a_catalogue_can_be_moved_with_its_images(tmp_path: Path) -> None:
    source = image(tmp_path / "a" / "img_20230207.tif")
    write_catalogue([source], str(tmp_path / "a" / "stac"))
    (tmp_path / "a").rename(tmp_path / "b")
    found = found_in(str(tmp_path / "b" / "stac" / "catalog.json"))
    assert [s.href for s in found.post] == [str(tmp_path / "b" / "img_20230207.tif")]


def test_a_list_of_images_is_a_catalogue(tmp_path: Path) -> None:
    good, undated = image(tmp_path / "g_20230207.tif", bands=1), image(tmp_path / "u.tif")
    found = found_in([good, undated], asset="anything")
    assert [(s.id, s.href, s.shape, s.gsd_m) for s in found.post] == [
        ("g_20230207", good, (30, 40), 0.5)
    ]
    assert [(i.subject, i.kind) for i in found.issues] == [(undated, "item")]
    assert "image has no date" in found.issues[0].cause


def test_no_image_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none of the images can be put into a catalogue"):
        write_catalogue([image(tmp_path / "undated.tif")], str(tmp_path / "stac"))
    assert not (tmp_path / "stac").exists()


def test_the_command_prints_the_path_and_names_what_it_left(tmp_path: Path) -> None:
    image(tmp_path / "img" / "a_20230207.tif")
    undated = image(tmp_path / "img" / "undated.tif")
    app = typer.Typer()
    app.command()(catalog)
    out = str(tmp_path / "stac")
    result = CliRunner().invoke(app, [str(tmp_path / "img"), "-o", out])
    assert result.exit_code == 1
    assert result.stdout == f"{out}/catalog.json\n"
    assert f"left out: {undated}: image has no date" in result.stderr
    result = CliRunner().invoke(app, [str(tmp_path / "img/a_20230207.tif"), "-o", out, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["items"] == ["a_20230207"]


@pytest.mark.data
def test_the_real_scenes_become_a_catalogue(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "turkiye-2023-scenes" / "imagery"
    images = sorted(str(p) for p in folder.rglob("*") if p.is_file())
    written = write_catalogue(images, str(tmp_path / "stac"))
    assert len(written.item_ids) == 14
    assert sorted(Path(issue.subject).name for issue in written.issues) == [
        "km_merkez2_post_20230209.jpg",
        "km_merkez2_pre_20210403.jpg",
    ]
    found = found_in(written.path)
    assert found.issues == []
    assert (len(found.post), len(found.pre)) == (7, 7)
    for scene in found.post + found.pre:
        assert scene.gsd_m == 0.5
        with rasterio.open(scene.href) as source:
            assert (scene.shape, scene.transform) == (source.shape, source.transform)
            assert source.crs == rasterio.crs.CRS.from_wkt(scene.crs_wkt)
    root = pystac.Catalog.from_file(written.path)
    assert all(
        "cloud-optimized" in (item.assets["visual"].media_type or "") for item in root.get_items()
    )
