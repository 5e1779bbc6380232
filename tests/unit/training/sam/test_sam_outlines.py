"""Crops, losses, a small training, and outlines in map coordinates."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
from shapely.geometry import Point, box

from quakestream.errors import RequestError
from training.data.pairs import Building, LabelledPair, read_image
from training.networks.sam import Sam, SamSize
from training.networks.sam_encoder import SamEncoderSize
from training.sam import __main__ as command
from training.sam.outline import outlines, polygon_of
from training.sam.prepare import OutlineCrops, crops_of
from training.sam.tune import (
    TuneSettings,
    dice_loss,
    filled,
    judged,
    overlap,
    prompts_for,
    tune,
)

TINY = SamSize(
    encoder=SamEncoderSize(
        width=32, depth=2, heads=2, global_blocks=(1,), image_px=32, patch_px=4, window=4
    ),
    channels=32,
    mlp=64,
    heads=2,
)


def discs() -> OutlineCrops:
    """Four bright discs on dark ground, one a crop."""
    row, col = np.mgrid[:32, :32]
    places = [(10, 9, 5), (20, 12, 7), (14, 21, 6), (21, 22, 4)]
    masks = np.stack([(row - r) ** 2 + (col - c) ** 2 <= s**2 for r, c, s in places])
    pixels = np.where(masks[:, None], 200, 60) * np.ones((1, 3, 1, 1))
    return OutlineCrops(
        pixels_NBYX=torch.from_numpy(pixels.astype(np.uint8)),
        image_N=torch.arange(4),
        mask_NYX=torch.from_numpy(masks),
    )


def test_losses_boxes_and_overlaps_have_their_known_values() -> None:
    crops = discs()
    assert crops.box_N4()[0].tolist() == [4, 5, 14, 15]
    full = torch.full((4, 32, 32), 30.0)
    mask = crops.mask_NYX
    assert dice_loss(torch.where(mask, 30.0, -30.0), mask).item() == pytest.approx(0.0, abs=1e-6)
    area = mask.flatten(1).sum(1)
    expected = 1 - (2 * area + 1) / (area + 1024 + 1)
    assert dice_loss(full, mask).item() == pytest.approx(expected.mean().item(), abs=1e-5)
    boxes = filled(crops, crops.box_N4())
    assert overlap(boxes, mask)[0].item() == pytest.approx(area[0].item() / 121)
    assert overlap(~mask, mask).tolist() == [0, 0, 0, 0]
    some = crops.of_images(torch.tensor([2, 0]))
    assert some.image_N.tolist() == [1, 0]
    assert torch.equal(some.pixels_NBYX[1], crops.pixels_NBYX[0])
    middle = prompts_for(crops, "point").point_N2
    assert middle is not None
    assert middle[0].tolist() == [[9, 10]]


@pytest.mark.slow
def test_a_tiny_network_learns_four_discs_from_boxes_and_points() -> None:
    torch.manual_seed(0)
    sam = Sam(TINY)
    before = judged(sam.eval(), discs())
    tune(sam, discs(), TuneSettings(steps=60, lr=3e-3, images=4))
    after = judged(sam, discs())
    assert before["box"].mean() < 0.4
    assert after["box"].mean() > 0.8
    assert after["point"].mean() > 0.7


def test_a_polygon_is_the_largest_part_without_holes() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:12, 3:13] = True
    mask[5:7, 5:7] = False
    mask[15:17, 15:17] = True
    polygon = polygon_of(mask)
    assert polygon is not None
    assert polygon.bounds == (3, 2, 13, 12)
    assert polygon.area == 100
    assert polygon_of(np.zeros((4, 4), np.bool_)) is None


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A bright house of 5 m by 4 m on dark ground, at 0.5 m."""
    pixels = np.full((3, 60, 70), 60, np.uint8)
    pixels[:, 20:28, 30:40] = 200
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 60, "width": 70}
    place = rasterio.transform.from_origin(500_000, 4_200_000, 0.5, 0.5)
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", crs="EPSG:32637", transform=place, **profile) as out:
        out.write(pixels)
    return path


def test_crops_show_whole_buildings_alone(scene: Path) -> None:
    image = read_image(scene)
    house = box(500_015, 4_199_986, 500_020, 4_199_990)
    shed = box(500_014, 4_199_983, 500_018, 4_199_985)
    buildings = tuple(
        Building(id=i, geometry=g, destroyed=False) for i, g in (("a", house), ("b", shed))
    )
    pair = LabelledPair(name="t", region="t", pre=image, post=image, buildings=buildings)
    with pytest.raises(RequestError, match="no building lies whole"):
        crops_of([pair], 32)  # the house lies across two crops
    whole = crops_of([pair], 48)
    assert whole.mask_NYX.flatten(1).sum(1).tolist() == [32, 80]
    assert whole.image_N.tolist() == [0, 0]
    assert len(crops_of([pair], 48, most=1)) == 1


def test_outlines_lie_on_the_map_and_depend_on_their_own_prompt(scene: Path) -> None:
    torch.manual_seed(0)
    sam = Sam(TINY).eval()
    with torch.no_grad():  # answers that are 1 everywhere
        sam.mask_decoder.output_upscaling[3].bias.fill_(1.0)
        for layer in sam.mask_decoder.output_hypernetworks_mlps:
            layer.layers[2].weight.zero_()
            layer.layers[2].bias.fill_(1.0)
    image = read_image(scene)
    house, far = Point(500_017, 4_199_988), Point(600_000, 4_199_988)
    first, none = outlines(sam, image, [house, far])
    assert none is None
    assert first is not None
    assert first[0].contains(house)
    assert first[0].area == pytest.approx(16.0**2)  # the whole window of 32 px
    again = outlines(sam, image, [box(*house.buffer(2).bounds), house])
    assert again[1] is not None
    assert again[1][0].equals(first[0])


def test_the_command_writes_outlines_and_refuses_other_weights(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(command.SIZES, "tiny", TINY)
    torch.manual_seed(0)
    torch.save(Sam(TINY).state_dict(), tmp_path / "sam.pth")
    prompts = gpd.GeoDataFrame(
        {"name": ["house"]}, geometry=[box(500_015, 4_199_986, 500_020, 4_199_990)], crs=32637
    )
    prompts.to_file(tmp_path / "boxes.gpkg")
    arguments = [str(scene), "--prompts", str(tmp_path / "boxes.gpkg"), "--size", "tiny"]
    out = tmp_path / "out.geojson"
    assert command.main([*arguments, "--weights", str(tmp_path / "sam.pth"), "-o", str(out)]) == 0
    assert set(gpd.read_file(out).columns) == {"name", "predicted_iou", "geometry"}
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    assert command.main([*arguments, "--weights", str(tmp_path / "other.pth"), "-o", str(out)]) == 2
    assert "not the weights of a SAM of this size" in capsys.readouterr().err
