"""Smart Transfer from tiles to a table, on towns whose damage shows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from quakestream.errors import ConfigError, RequestError
from tests.helpers.rubble import rubble_town
from training.config import TransferConfig, TransferLoss
from training.data.islahiye import PostCrop
from training.data.post_tiles import PostTiles, joined, load_domain, tiles_of_crops, tiles_of_pair
from training.data.splits import nearest_groups
from training.lessons.transfer import FeatureTiles, TransferLesson, building_scores, open_transfer
from training.loop import run
from training.metrics import auc_within
from training.networks import NetworkInputs, build_network
from training.networks.frozen import ENCODERS, open_encoder
from training.probe import building_features, linear_probe
from training.recipes import recipe
from training.reporting import LogReporter
from training.settings import from_json, to_json, with_settings
from training.smart_transfer import TransferPlan, sources_of, table_of, trials


def texture(tiles: PostTiles) -> torch.Tensor:
    """A stand-in for an encoder: mean and deviation of the counts of each cell, per band."""
    pixels = torch.from_numpy(tiles.pixels_NBYX).float() / 128 - 1
    mean = torch.nn.functional.avg_pool2d(pixels, 16)
    square = torch.nn.functional.avg_pool2d(pixels.square(), 16)
    return torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()], dim=1)


def feature_tiles(seed: int) -> FeatureTiles:
    tiles = tiles_of_pair(rubble_town(f"t{seed}", seed), f"t{seed}")
    return FeatureTiles(tiles=tiles, map_NDYX=texture(tiles))


def small(**loss: float) -> TransferConfig:
    config = recipe("smart_transfer_small")
    assert isinstance(config, TransferConfig)
    settings = ["steps=16", "batch=4", "network=transfer_16"]
    settings += [f"transfer_loss.{key}={value}" for key, value in loss.items()]
    return with_settings(config, settings)


def test_a_pair_is_cut_into_tiles_that_show_every_building() -> None:
    pair = rubble_town("a", 1)
    tiles = tiles_of_pair(pair, "a")
    assert tiles.pixels_NBYX.shape == (4, 3, 128, 128)
    assert set(np.unique(tiles.owner_NYX)) == set(range(65))
    table = tiles.buildings
    assert table["destroyed"].sum() == 32
    for tile, owner, state in zip(tiles.pixels_NBYX, tiles.owner_NYX, tiles.state_NYX, strict=True):
        for k in np.unique(owner[owner > 0]):
            inside = owner == k
            assert set(np.unique(state[inside])) == {int(table["destroyed"][k - 1])}
            flat = tile[0][inside].std() < 1
            assert flat != bool(table["destroyed"][k - 1])
    both = joined([tiles, tiles])
    assert len(both.buildings) == 128
    assert both.owner_NYX.max() == 128


def test_a_crop_stands_in_the_middle_of_a_tile_at_the_common_gsd() -> None:
    inside: NDArray[np.bool_] = np.zeros((50, 100), bool)
    inside[10:40, 20:80] = True
    crop = PostCrop(
        id="7",
        destroyed=True,
        block=2,
        pixels_BYX=np.where(inside, 200, 40)[None].repeat(3, 0).astype(np.uint8),
        inside_YX=inside,
    )
    tiles = tiles_of_crops([crop], "city")
    own = tiles.owner_NYX[0] > 0
    rows, cols = np.nonzero(own)
    assert (np.ptp(rows) + 1, np.ptp(cols) + 1) == (18, 36)  # 0.3 m to 0.5 m
    assert rows.mean() == pytest.approx(63.5, abs=1)
    assert tiles.pixels_NBYX[0, 0][own].min() > 100
    assert (tiles.state_NYX[0] == np.where(own, 1, -1)).all()
    assert tiles.pixels_NBYX[0, 0, 0, 0] == 0
    assert tiles.buildings.iloc[0].tolist() == ["7", True, 1800, "city-2", "city"]


def test_a_decoder_learns_and_its_checkpoint_holds_the_prototypes(tmp_path: Path) -> None:
    config = small()
    train, held = feature_tiles(1), feature_tiles(2)
    lesson = TransferLesson(config, train, held)
    checkpoint = run(config, lesson, LogReporter(lambda _: None))
    assert checkpoint.figures["auc"] > 0.95
    network = build_network(config.network, inputs=lesson.inputs)
    network.load_state_dict(checkpoint.weights)
    answers, _ = building_scores(network.eval(), held)
    assert len(answers) == 64
    torch.testing.assert_close(
        checkpoint.weights["prototype_KD"].norm(dim=1), torch.ones(64), atol=1e-5, rtol=0
    )
    assert from_json(to_json(config)) == config


def test_the_losses_add_up_with_their_weights() -> None:
    values = {}
    for name, (pc, dpt) in {"raw": (0, 0), "pc": (1, 0), "dpt": (0, 1), "both": (1, 1)}.items():
        config = small(prototype_weight=pc, triplet_weight=dpt)
        lesson = TransferLesson(config, feature_tiles(1), feature_tiles(2))
        torch.manual_seed(0)
        network = lesson.network().eval()
        values[name] = lesson.loss(network, lesson.batch(3, 0, 1), 3).item()
    assert values["pc"] > values["raw"]
    assert values["dpt"] > values["raw"]
    extra = values["pc"] + values["dpt"] - 2 * values["raw"]
    assert values["both"] - values["raw"] == pytest.approx(extra, rel=1e-4)


def test_few_shot_training_takes_that_many_tiles() -> None:
    config = with_settings(small(), ["tiles=2"])
    lesson = TransferLesson(config, feature_tiles(1), feature_tiles(2))
    assert lesson.examples == 2


def test_a_probe_reads_the_same_features() -> None:
    train, held = feature_tiles(1), feature_tiles(2)
    row_N, feature_ND = building_features(train)
    assert row_N.tolist() == list(range(64))
    label_N = train.tiles.buildings["destroyed"].to_numpy(np.int64)
    probe = linear_probe(feature_ND, label_N)
    truth_N = held.tiles.buildings["destroyed"].to_numpy(np.int64)
    assert (probe.predict(building_features(held)[1]) == truth_N).mean() > 0.95
    one = train.tiles.owner_NYX[0] == 1  # 16 × 16 from (8, 8): a quarter of four cells each
    assert one.sum() == 256
    torch.testing.assert_close(
        torch.from_numpy(feature_ND[0]), train.map_NDYX[0, :, :2, :2].mean(dim=(1, 2))
    )


def test_sources_are_chosen_by_what_the_protocol_says() -> None:
    base = small()
    assert sources_of("lodo", "islahiye", base) == ("adiyaman", "turkoglu-hatay", "synthetic")
    assert sources_of("ssdc_gd", "islahiye", base) == ("turkoglu-hatay",)
    shares = {"a": [0.1], "b": [0.4], "c": [0.12], "d": [0.3]}
    assert nearest_groups(shares, "a", 2) == ("c", "d")
    with pytest.raises(RequestError, match="4 or more other groups"):
        nearest_groups(shares, "a", 4)
    plan = TransferPlan(protocols=("lodo",), targets=("adiyaman",), variants=("raw", "pc"), seeds=2)
    configs = [trial.config(base) for trial in trials(plan, base)]
    assert [c.run.seed for c in configs] == [1, 2, 1, 2]
    assert [c.transfer_loss.prototype_weight for c in configs] == [0, 0, 0.01, 0.01]
    assert {c.transfer_loss.triplet_weight for c in configs} == {0.0}
    assert all("adiyaman" not in c.domains and c.held == ("adiyaman",) for c in configs)


def test_the_table_compares_rows_on_the_buildings_that_all_have() -> None:
    rng = np.random.default_rng(0)
    destroyed = np.arange(120) % 4 == 0
    facts = pd.DataFrame(
        {
            "id": [str(i) for i in range(120)],
            "destroyed": destroyed,
            "area_px": rng.integers(100, 900, 120),
            "block": [f"b{i % 12}" for i in range(120)],
            "domain": "town",
        }
    )
    parts = [
        facts.assign(p=destroyed + rng.normal(0, 0.3, 120), row="lodo raw", pixel_f1=0.4),
        facts.assign(p=destroyed * 1.0, row="lodo pc", pixel_f1=0.6),
        facts.iloc[20:].assign(p=0.5, row="area alone"),
    ]
    table = table_of(pd.concat(parts), draws=100).set_index("row")
    assert (table["destroyed"] + table["intact"] == 100).all()
    assert table.loc["lodo pc", "auc"].startswith("1.000")
    assert table.loc["area alone", "auc"].startswith("0.500")
    assert table.loc["lodo pc", "pixel_f1"] == pytest.approx(0.6)
    assert table.loc["lodo pc", "auc_minus_raw"].startswith("+")
    assert np.isnan(table.loc["area alone", "pixel_f1"])


def test_an_auc_within_groups_forgets_what_groups_say() -> None:
    group_N = np.array([0] * 6 + [1] * 6)
    destroyed_N = np.array([1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0], bool)
    assert auc_within(group_N.astype(float), destroyed_N, group_N) == 0.5
    score_N = np.array([1, 0, 0, 0, 0, 2, 1, 1, 1, 1, 1, 0.0])
    assert auc_within(score_N, destroyed_N, group_N) == pytest.approx((4 + 5) / 10)
    assert np.isnan(auc_within(score_N, destroyed_N, destroyed_N.astype(np.int64)))


def test_lite0_stands_behind_the_one_call() -> None:
    encoder = open_encoder("lite0")
    counts = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    map_NDYX = encoder(counts)
    assert map_NDYX.shape == (1, 512, 4, 6)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert torch.equal(encoder.train()(counts), map_NDYX)  # batch norms stay as they are
    random = open_encoder("lite0_random")(counts)
    assert not torch.allclose(random, map_NDYX)


@pytest.mark.parametrize("name", ["dinov2_s_random", "dinov3_s_random", "prithvi_tiny_random"])
def test_other_encoders_give_maps_of_the_same_side(name: str) -> None:
    encoder = open_encoder(name, side_px=32)
    with torch.no_grad():
        map_NDYX = encoder(torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8))
    assert map_NDYX.shape == (1, encoder.channels, 2, 2)


def test_encoders_without_weights_are_refused() -> None:
    with pytest.raises(RequestError, match="--set weights=PATH"):
        open_encoder("dinov3_l_sat")
    with pytest.raises(ConfigError, match="one of lite0, galileo_nano"):
        open_encoder("resnet")
    assert "dinov3_l_sat" in ENCODERS


def test_a_domain_on_both_sides_is_refused() -> None:
    config = with_settings(small(), ["domains=islahiye", "held=islahiye"])
    with pytest.raises(RequestError, match="islahiye is on both sides"):
        open_transfer(config)
    assert TransferLoss().alpha == 0.7
    assert NetworkInputs(bands=512).bands == 512


@pytest.mark.data
def test_galileo_stands_behind_the_one_call(data_dir: Path) -> None:
    path = data_dir / "galileo-nano" / "encoder.pt"
    encoder = open_encoder("galileo_nano", str(path), side_px=64)
    counts = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    assert encoder(counts).shape == (1, 128, 4, 4)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "destroyed"), [("adiyaman", 249), ("turkoglu-hatay", 3), ("islahiye", 93)]
)
def test_domains_are_the_cities_that_are_here(domain: str, destroyed: int) -> None:
    tiles = load_domain(domain)
    table = tiles.buildings
    assert int(table["destroyed"].sum()) == destroyed
    assert set(table["domain"]) == {domain}
    assert len(np.unique(tiles.owner_NYX)) - 1 > 0.95 * len(table)
