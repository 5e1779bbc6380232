"""Networks, labels, chips, augmentation, the loop and its configuration."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch
from sklearn.metrics import roc_auc_score

import training
from quakestream.errors import ConfigError, RequestError, ShapeError
from quakestream.tiling.lattice import Lattice
from tests.helpers.rubble import GRID, noise_image, rubble_town, tiny_config, town
from training.calibrate import calibrate, choose_thresholds
from training.checkpoints import Checkpoint, load_checkpoint
from training.data.augment import Augmentation, augment
from training.data.chips import ChipSource, RawChips, owner_map
from training.data.pairs import Building, LabelledPair
from training.data.sources import load_pairs
from training.data.splits import RegionSplit, buildings_on
from training.data.turkiye import label_buildings
from training.evaluate import differences
from training.export import main as export_command
from training.loop import held_out_logits, train
from training.losses import LossWeights, damage_loss
from training.metrics import arrays
from training.networks import NetworkInputs, build_network, of_bands
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.recipes import RECIPES, recipe
from training.scoring import BuildingLogits, score_buildings
from training.settings import from_json, to_json, with_settings
from training.train import main as train_command

PARAMETERS = {
    "fc_ef_small": 92_369,
    "fc_ef_medium": 1_241_633,
    "fc_ef_large": 5_047_201,
    "fc_siam_conc_small": 115_121,
    "fc_siam_conc_medium": 1_437_041,
    "fc_siam_conc_large": 5_832_433,
    "fc_siam_diff_small": 91_937,
    "fc_siam_diff_medium": 1_241_201,
    "fc_siam_diff_large": 5_046_769,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_networks_have_the_published_size(name: str, count: int) -> None:
    with torch.device("meta"):
        network = build_network(name)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize("name", ["fc_ef_small", "fc_siam_conc_small", "fc_siam_diff_small"])
def test_a_network_gives_a_logit_per_pixel_alike_in_training_and_use(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name)
    pre, post = torch.randn(2, 3, 32, 48), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        used = network.eval()(pre, post)
        network.train()  # takes the path of one pass over both dates...
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # ...with norms that do not follow the batch
        trained = network(pre, post)
    assert used.shape == (2, 1, 32, 48)
    torch.testing.assert_close(trained, used)


def test_the_order_of_the_dates_matters_to_the_difference_network() -> None:
    torch.manual_seed(0)
    network = build_network("fc_siam_diff_small").eval()
    a, b = torch.randn(2, 1, 3, 32, 32)
    with torch.no_grad():
        assert (network(a, b) - network(b, a)).abs().max() > 1e-5


def test_a_window_that_does_not_fit_the_pooling_is_refused() -> None:
    image = torch.zeros(1, 3, 30, 32)
    with pytest.raises(ShapeError, match="multiples of 8, got 30×32"):
        build_network("fc_siam_diff_small")(image, image)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="fc_siam_diff_small"):
        build_network("fc_siam_diff_tiny")
    with pytest.raises(ConfigError, match="fc_siam_diff_small"):
        recipe("nothing")


def test_settings_are_typed_and_reach_into_parts() -> None:
    config = with_settings(
        recipe("fc_siam_diff_small"),
        [
            "steps=7",
            "lr=0.5",
            "judge_bounds=false",
            "augmentation.haze=0",
            "augmentation.scale=0.9,1.1",
        ],
    )
    assert (config.schedule.steps, config.optimiser.lr, config.augmentation.haze) == (7, 0.5, 0.0)
    assert config.augmentation.scale == (0.9, 1.1)
    assert config.windows.judge_bounds is False
    assert from_json(to_json(config)) == config
    for wrong in ("stps=7", "steps=many", "judge_bounds=0", "loss=1", "steps"):
        with pytest.raises(ConfigError):
            with_settings(config, [wrong])


def test_labels_leave_the_unknown_out() -> None:
    destroyed = {"d": shapely.box(10, 10, 20, 20), "outside": shapely.box(95, 10, 105, 20)}
    boxes = {
        "far": shapely.box(40, 40, 50, 50),
        "touching": shapely.box(15, 15, 30, 30),
        "too near": shapely.box(23, 10, 30, 20),
        "just clear": shapely.box(25, 10, 35, 20),
        "cut by the edge": shapely.box(60, -5, 70, 5),
    }
    known = label_buildings(
        destroyed=destroyed, boxes=boxes, own_ground=shapely.box(0, 0, 100, 100), clear_m=4.0
    )
    assert {b.id: b.destroyed for b in known} == {"d": True, "far": False, "just clear": False}


def test_boxes_of_unknown_state_are_trained_on_when_asked_for_and_never_judged() -> None:
    ground = shapely.box(0, 0, 100, 100)
    buildings = label_buildings(
        destroyed={"d": shapely.box(10, 10, 20, 20)},
        boxes={"stands": shapely.box(40, 40, 50, 50)},
        unlabelled={"gone": shapely.box(70, 70, 80, 80), "at d": shapely.box(21, 10, 30, 20)},
        own_ground=ground,
    )
    assert {b.id: (b.destroyed, b.judged) for b in buildings} == {
        "d": (True, True),
        "stands": (False, True),
        "gone": (False, False),
    }
    pair = replace(town(side=200, buildings=[]), buildings=buildings)
    judged = buildings_on("held", pair, ground, buffer_m=0.0)
    trained = buildings_on("train", pair, shapely.Polygon(), buffer_m=0.0)
    assert [b.id for b in judged] == ["d", "stands"]
    assert [b.id for b in trained] == ["d", "stands", "gone"]
    config = with_settings(recipe("fc_siam_diff_small"), ["vanished_boxes=true"])
    with pytest.raises(RequestError, match="expected objective nnpu"):
        load_pairs(config)


def test_pixels_are_labelled_at_their_centres_and_nowhere_else() -> None:
    pair = town(buildings=[(4, 4, 8, True), (20, 6, 6, False)])
    owner_YX = owner_map(pair, pair.buildings)
    expected_YX = np.zeros((64, 64), np.int32)
    expected_YX[4:12, 4:12] = 1
    expected_YX[20:26, 6:12] = -2
    np.testing.assert_array_equal(owner_YX, expected_YX)


def test_geometry_is_the_same_for_both_epochs_and_the_labels() -> None:
    rng = np.random.default_rng(0)
    mark_NYX = (rng.random((8, 80, 80)) < 0.2).astype(np.uint8)
    mark_NYX = mark_NYX.repeat(2, axis=1).repeat(2, axis=2)[:, :160, :160]
    image = torch.from_numpy(np.repeat(mark_NYX[:, None] * 200, 3, axis=1))
    raw = RawChips(
        pre_NBYX=image,
        post_NBYX=image,
        owner_NYX=torch.from_numpy(mark_NYX.astype(np.float32)),
        statistics_N4B=torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None].repeat(8, 1, 3),
    )
    plain = still(turn_share=1.0)
    chips = augment(raw, 64, plain, torch.Generator().manual_seed(1))
    torch.testing.assert_close(chips.pre_NBYX, chips.post_NBYX)
    bright_NYX = chips.post_NBYX.mean(dim=1) > 100
    agreement = (bright_NYX == (chips.owner_NYX > 0)).float().mean()
    assert agreement > 0.97  # what differs is the edge that bilinear sampling softens
    assert 0.1 < (chips.owner_NYX > 0).float().mean() < 0.3
    turned = augment(raw, 64, plain, torch.Generator().manual_seed(2))
    assert (turned.owner_NYX != chips.owner_NYX).any()


def test_chips_that_are_not_turned_keep_their_counts() -> None:
    image = torch.randint(1, 255, (4, 3, 96, 96), dtype=torch.uint8)
    raw = RawChips(
        pre_NBYX=image,
        post_NBYX=image,
        owner_NYX=torch.zeros(4, 96, 96),
        statistics_N4B=torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None].repeat(4, 1, 3),
    )
    chips = augment(raw, 64, still(turn_share=0.0), torch.Generator().manual_seed(1))
    middle = image[:, :, 16:80, 16:80].float()
    for n in range(4):
        counts = chips.post_NBYX[n].sort().values.sum()
        assert counts == pytest.approx(float(middle[n].sum()), rel=1e-4)


def test_a_shift_moves_the_image_from_before_alone() -> None:
    image = torch.randint(0, 255, (16, 3, 96, 96), dtype=torch.uint8)
    raw = RawChips(
        pre_NBYX=image,
        post_NBYX=image,
        owner_NYX=torch.zeros(16, 96, 96),
        statistics_N4B=torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None].repeat(16, 1, 3),
    )
    how = still(turn_share=0.0, shift_px=3.0)
    moved = augment(raw, 64, how, torch.Generator().manual_seed(3))
    at_rest = augment(raw, 64, still(turn_share=0.0), torch.Generator().manual_seed(3))
    torch.testing.assert_close(moved.post_NBYX.sum((1, 2, 3)), at_rest.post_NBYX.sum((1, 2, 3)))
    differs_N = (moved.pre_NBYX != moved.post_NBYX).flatten(1).any(dim=1)
    assert differs_N.float().mean() > 0.8


def test_unlabelled_pixels_have_no_say_in_the_loss() -> None:
    owner_NYX = torch.zeros(2, 16, 16, dtype=torch.long)
    owner_NYX[0, :4, :4], owner_NYX[1, 8:, 8:] = 3, -5
    logits = torch.randn(2, 1, 16, 16)
    other = torch.where(owner_NYX[:, None] == 0, logits + 100.0, logits)
    weights = LossWeights()
    assert damage_loss(logits, owner_NYX, weights) == damage_loss(other, owner_NYX, weights)
    right = torch.where(owner_NYX[:, None] > 0, 3.0, -3.0)
    assert damage_loss(right, owner_NYX, weights) < damage_loss(-right, owner_NYX, weights)


def test_the_building_part_judges_a_building_by_its_mean_probability() -> None:
    owner_NYX = torch.zeros(1, 8, 8, dtype=torch.long)
    owner_NYX[0, :4], owner_NYX[0, 4:] = 1, -1  # one index, two states: two buildings
    logits = torch.randn(1, 1, 8, 8)
    loss = damage_loss(logits, owner_NYX, LossWeights(pixel=0.0, building=1.0, smoothing=0.0))
    p = torch.sigmoid(logits[0, 0])
    expected = -(torch.log(p[:4].mean()) + torch.log(1 - p[4:].mean())) / 2
    torch.testing.assert_close(loss, expected)


def test_a_few_steps_learn_and_the_checkpoint_comes_back(tmp_path: Path) -> None:
    pairs = [rubble_town("a", 1), rubble_town("b", 2)]
    config = tiny_config(steps=40)
    records: list[dict[str, object]] = []
    checkpoint = train(config, pairs, records.append)
    assert checkpoint.figures["auc"] > 0.95
    untrained = Checkpoint(
        config=config, weights=build_network(config.network).state_dict(), step=0, figures={}
    )
    scored = held_out_logits(config, pairs, untrained.network())
    assert checkpoint.figures["auc"] > roc_auc_score(*arrays(scored)[::-1])
    checkpoint.save(tmp_path / "c.pt")
    again = load_checkpoint(tmp_path / "c.pt")
    assert again.config == config
    assert all(torch.equal(again.weights[k], v) for k, v in checkpoint.weights.items())


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    torch.save({"weights": {}}, tmp_path / "y.pt")
    for name in ("x.pt", "y.pt", "missing.pt"):
        with pytest.raises(RequestError, match="not a checkpoint"):
            load_checkpoint(tmp_path / name)


def test_a_side_without_a_destroyed_building_is_refused() -> None:
    with pytest.raises(RequestError, match="no destroyed building"):
        ChipSource(
            [town(buildings=[(20, 20, 8, False)])],
            RegionSplit(held_regions=frozenset()),
            raw_px=16,
            jitter_px=2,
            buffer_m=1.0,
            seed=0,
        )


def test_windows_score_a_pair_as_one_untiled_image_does() -> None:
    """Halos of a whole receptive field: no window edge can be seen in the logits."""
    torch.manual_seed(0)
    network = build_network("fc_siam_diff_small").eval()
    pair = town(side=160, buildings=[(40, 40, 60, True), (110, 20, 30, False)])
    pair = LabelledPair(
        name=pair.name,
        region=pair.region,
        pre=noise_image(pair.window, 1),
        post=noise_image(pair.window, 2),
        buildings=pair.buildings,
    )
    small = Lattice(grid=GRID, window_px=192, halo_px=64, cell_windows=1)
    large = Lattice(grid=GRID, window_px=512, halo_px=64, cell_windows=1)
    a, b = (score_buildings(network, pair, pair.buildings, how) for how in (small, large))
    for tiled, whole in zip(a, b, strict=True):
        np.testing.assert_allclose(tiled.logit_P, whole.logit_P, atol=1e-4)


def test_difference_of_a_building_is_over_its_own_pixels() -> None:
    pair = town(buildings=[(4, 4, 8, True), (20, 6, 6, False)])
    pair.post.pixels_BYX[:, 4:12, 4:12] += 30
    scored = [
        BuildingLogits(pair=pair.name, building=b, logit_P=np.zeros(1, np.float32))
        for b in pair.buildings
    ]
    np.testing.assert_allclose(differences(scored, [pair]), [30.0, 0.0])


def test_calibration_recovers_a_known_temperature_at_any_share_of_destroyed() -> None:
    rng = np.random.default_rng(0)
    destroyed_N = rng.random(4000) < 0.1
    evidence_N = 2 * rng.normal(np.where(destroyed_N, 1.0, -1.0), 1.0)  # log odds at prior 1/2
    scored = [
        scored_building(3.0 * float(v), bool(d))  # a network that is too sure
        for v, d in zip(evidence_N, destroyed_N, strict=True)
    ]
    assert calibrate(scored).temperature == pytest.approx(3.0, rel=0.15)


def test_thresholds_are_ordered_and_do_what_they_are_named_for() -> None:
    rng = np.random.default_rng(1)
    destroyed_N = rng.random(2000) < 0.2
    p_N = 1 / (1 + np.exp(-rng.normal(np.where(destroyed_N, 0.8, -2.0), 1.0)))
    chosen = choose_thresholds(p_N, destroyed_N)
    assert chosen.high_recall <= chosen.balanced <= chosen.high_precision
    assert (p_N[destroyed_N] >= chosen.high_recall).mean() >= 0.95
    assert (p_N[~destroyed_N] >= chosen.high_precision).mean() <= 0.021
    right = [
        np.mean([(p_N[destroyed_N] >= t).mean(), (p_N[~destroyed_N] < t).mean()])
        for t in (chosen.balanced, 0.3, 0.5, 0.7)
    ]
    assert right[0] == max(right)


def test_a_wrong_request_ends_with_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_command(["nothing"]) == 2
    assert train_command(["fc_siam_diff_small", "--set", "stps=1"]) == 2
    assert export_command([str(tmp_path / "no.pt"), "-o", str(tmp_path / "b")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "fc_siam_diff_small" in lines[0]
    assert "steps" in lines[1]
    assert "no.pt" in lines[2]
    assert not (tmp_path / "b").exists()


def test_no_training_code_reads_the_test_scene() -> None:
    root = Path(training.__file__).parent
    sources = sorted(root.rglob("*.py"))
    assert len(sources) > 10
    field_points = "kahramanmaras-2023-main/labels/field_damage_points_with_features.txt"
    for source in sources:
        text = source.read_text().replace(field_points, "")  # numbers of 24,352 places, no image
        named = re.findall(r"kahramanmaras-2023-main|km_merkez4|EMSR648_AOI04", text, re.I)
        assert not named, f"{source} names the test scene: {named}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_configuration_whose_network_exists(name: str) -> None:
    config = recipe(name)
    assert config.recipe == name
    assert from_json(to_json(config)) == config
    groups = (3, 6, 1) if config.network.startswith(("qmf", "hazard")) else ()
    inputs = NetworkInputs(hazard_groups=groups)
    if config.network in LANDSLIDE_NETWORKS:
        inputs = of_bands("red", "green", "nir", "slope")
    with torch.device("meta"):
        build_network(config.network, inputs=inputs)


def still(*, turn_share: float, shift_px: float = 0.0) -> Augmentation:
    """Geometry alone."""
    return Augmentation(
        turn_share=turn_share,
        shift_px=shift_px,
        gamma=0.0,
        contrast=0.0,
        brightness=0.0,
        cast=0.0,
        haze=0.0,
        sharpness=(0.0, 0.0),
        noise=0.0,
        grey_share=0.0,
    )


def scored_building(logit: float, destroyed: bool) -> BuildingLogits:
    building = Building(id="", geometry=shapely.box(0, 0, 1, 1), destroyed=destroyed)
    return BuildingLogits(pair="", building=building, logit_P=np.full(4, logit, np.float32))
