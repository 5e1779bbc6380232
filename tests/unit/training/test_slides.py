"""Landslide training: bands, statistics, labels, trust, the protocol, and the bundle."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit
from sklearn.metrics import mutual_info_score

from quakestream.bundles import load_bundle
from quakestream.errors import RequestError
from training.checkpoints import load_checkpoint, start_from
from training.config import SlidesConfig, SlideView
from training.data.slide_augment import coarsened, recoloured, training_crop
from training.data.slide_chips import ChipSetInfo, open_chips_of, write_chip, write_info
from training.data.slide_photos import read_photos
from training.export import main as export_command
from training.lessons.slides import SlidesLesson, open_slides
from training.loop import run
from training.metrics import PixelCounts
from training.metrics.scores import ScoreCounts
from training.reporting import LogReporter
from training.settings import from_json, new_config, to_json, with_values
from training.slides import axes
from training.slides.__main__ import main as slides_command
from training.slides.alarms import alarms, probabilities
from training.slides.band_information import band_information, mutual_bits
from training.slides.export import thresholds_of
from training.slides.few_shot import few_chips
from training.slides.gradcam import diverging, signed_gradcam
from training.slides.gradcam import main as gradcam_command
from training.slides.trust import MapScores, Platt, fit_platt

BANDS = ("red", "nir", "slope", "elevation")
FACTORS = (0.1, 0.2, 15.0, 150.0)


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight chips a part: landslides are where the first band is high."""
    root = tmp_path_factory.mktemp("chips")
    write_info(root, ChipSetInfo(bands=BANDS, physical_per_stored=FACTORS, description="squares"))
    random = np.random.default_rng(1)
    for part in ("train", "validation", "test"):
        for number in range(8):
            mask = np.zeros((32, 32), np.uint8)
            top, left = random.integers(2, 20, 2)
            mask[top : top + 9, left : left + 7] = 1
            image = random.normal(2.0, 0.5, (4, 32, 32)).astype(np.float32)
            image[0] += 2.0 * mask
            if part == "train" and number == 0:
                image[1, :3] = np.nan
            write_chip(root, part, str(number), image, mask)
    return root


def config(root: Path, **values) -> SlidesConfig:
    settings = {"steps": 4, "batch": 2, "crop_px": 32, "dropout": 0.2, "best": "f1", "checks": 1}
    return new_config(
        SlidesConfig,
        recipe="slides_unet_tiny",
        network="unet_tiny",
        source=str(root),
        **(settings | values),
    )


def test_statistics_are_those_of_finite_training_values(chips: Path):
    lesson = open_slides(config(chips))
    image_NBYX, mask_NYX = lesson.train_chips.read(range(8))
    np.testing.assert_allclose(lesson.scale.mean_B, np.nanmean(image_NBYX, (0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(lesson.scale.std_B, np.nanstd(image_NBYX, (0, 2, 3)), rtol=1e-5)
    assert lesson.facts()["positive_share"] == pytest.approx(mask_NYX.mean())
    z = lesson.scale(image_NBYX)
    assert (z[0, 1, :3] == 0).all()  # values that are not numbers become the mean
    np.testing.assert_allclose(z.mean((0, 2, 3)), 0, atol=1e-5)


def test_a_band_without_spread_and_foreign_statistics_are_refused(chips: Path, tmp_path: Path):
    write_info(tmp_path, ChipSetInfo(bands=("red",)))
    write_chip(tmp_path, "train", "1", np.ones((1, 16, 16), np.float32), np.zeros((16, 16)))
    with pytest.raises(RequestError, match="no spread in band red"):
        open_slides(config(tmp_path))
    lesson = open_slides(config(chips))
    foreign = type(lesson.scale)(
        mean_B=lesson.scale.mean_B - 9.0, std_B=lesson.scale.std_B, positive_share=0.02
    )
    with pytest.raises(RequestError, match="do not fit the chips"):
        foreign.check(lesson.train_chips)


def test_labels_bands_and_batches_are_functions_of_the_seed(chips: Path):
    few = open_slides(config(chips, label_share=0.25))
    again = open_slides(config(chips, label_share=0.25))
    other = open_slides(config(chips, label_share=0.25, **{"run.seed": 5}))
    assert len(few.train_chips) == 2
    assert few.train_chips.names == again.train_chips.names
    assert few.train_chips.names != other.train_chips.names
    first, second = few.batch(3, 0, 1), again.batch(3, 0, 1)
    assert torch.equal(first["image_NBYX"], second["image_NBYX"])
    # Two workers make the halves of the same batch.
    halves = [few.batch(3, rank, 2)["image_NBYX"] for rank in range(2)]
    assert torch.equal(torch.cat(halves), first["image_NBYX"])
    two = open_slides(config(chips, bands=("slope", "red")))
    assert two.inputs.band_names == ("slope", "red")
    assert two.batch(0, 0, 1)["image_NBYX"].shape == (2, 2, 32, 32)


def test_turns_move_image_and_mask_together():
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    mask = (image[0] % 3 == 0).astype(np.uint8)
    view = SlideView(crop_px=8)
    seen = set()
    for seed in range(40):
        turned, moved = training_crop(image, mask, view, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved, (turned[0] % 3 == 0).astype(np.uint8))
        seen.add(turned.tobytes())
    assert len(seen) == 8


def test_zoom_and_light_keep_size_and_range():
    random = np.random.default_rng(2)
    image = random.uniform(0, 255, (3, 60, 60)).astype(np.float32)
    view = SlideView(crop_px=32, zoom=1.5, recolour=1.0)
    crop, mask = training_crop(image, np.ones((60, 60), np.uint8), view, random)
    assert crop.shape == (3, 32, 32)
    assert mask.all()
    assert 0 <= crop.min() <= crop.max() <= 255
    assert np.abs(recoloured(image, 1.0, random) - image).mean() > 1


def test_coarser_pixels_are_means_of_squares():
    image = np.arange(2 * 7 * 7, dtype=np.float32).reshape(1, 2, 7, 7)
    coarse = coarsened(image, 3)
    assert coarse.shape == image.shape
    np.testing.assert_allclose(coarse[0, 0, :3, :3], image[0, 0, :3, :3].mean())
    np.testing.assert_array_equal(coarsened(image, 1), image)


def test_platt_finds_a_known_slope_and_offset():
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (200_000, 1)).astype(np.float32)
    truth = (random.random(200_000) < expit(0.6 * logits[:, 0] - 1.5)).astype(np.uint8)
    found = fit_platt(logits, truth)
    assert found.slope == pytest.approx(0.6, abs=0.02)
    assert found.offset == pytest.approx(-1.5, abs=0.03)
    with pytest.raises(RequestError, match="one class"):
        fit_platt(logits, np.zeros(200_000, np.uint8))


def test_errors_among_the_most_uncertain_pixels_are_counted():
    # A hundred pixels: ten are unsure, and nine of the twelve errors are among them.
    p = np.full((1, 2, 10, 10), 0.1, np.float32)
    p[0, :, 0] = [[0.1], [0.5]]
    mask = np.zeros((1, 10, 10), np.uint8)
    mask[0, 0, :9], mask[0, 5, :3] = 1, 1
    scores = MapScores(threshold=0.9).add(p, mask)
    found = scores.uncertainty()
    assert found["errors_in_most_uncertain_tenth"] == pytest.approx(9 / 12)
    assert found["std_above_0.05"] == pytest.approx(0.1)
    assert found["std_fn"] == pytest.approx(9 / 12 * 0.4 / 2**0.5, abs=1e-3)
    assert scores.figures()["recall"] == 0
    # By the mean probability alone the same ten pixels are the least sure.
    assert scores.doubt()["errors_in_least_sure_tenth"] == pytest.approx(9 / 12)


def test_outer_thresholds_reach_their_aims_on_validation():
    random = np.random.default_rng(4)
    p = random.random(100_000)
    counts = ScoreCounts.of(p, random.random(100_000) < p)
    found = thresholds_of(counts, 0.5)
    assert found.high_recall < 0.5 < found.high_precision
    assert counts.figures_at(found.high_precision)["precision"] >= 0.8
    assert counts.figures_at(found.high_recall)["recall"] >= 0.9
    assert Platt()(np.zeros(1, np.float32))[0] == 0.5


def test_configurations_survive_json(chips: Path):
    made = config(chips, bands=("red", "slope"), rank=4, patterns=("*.qkv",), label_share=0.1)
    assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_the_protocol_and_its_axes_run_from_the_command_line(chips: Path, tmp_path: Path, capsys):
    settings = ["--set", "steps=3", "--set", "epochs=0", "--set", "batch=2", "--set", "crop_px=32"]
    settings += ["--set", "checks=1", "--set", "patience=0", "--recipe", "slides_unet_tiny"]
    out = tmp_path / "domain"
    arguments = ["domain", str(chips), "-o", str(out), "--seeds", "1,2", *settings]
    assert slides_command(arguments) == 2
    assert "no set to judge on" in capsys.readouterr().err
    assert slides_command([*arguments, "--target", str(chips)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert [row["seed"] for row in results["rows"]] == [1, 2]
    row = results["rows"][0]
    assert row["targets"][chips.name] == row["test"]  # the target is the set itself
    assert set(row["uncertainty"]) >= {"std_fp", "errors_in_most_uncertain_tenth"}
    before = (out / "results.json").stat().st_mtime_ns
    assert slides_command([*arguments, "--target", str(chips)]) == 0  # nothing is run again
    assert (out / "results.json").stat().st_mtime_ns == before
    picture = tmp_path / "cam.png"
    wanted = ["-o", str(picture), "--layer", "encoder.1", "--layer", "encoder.2"]
    assert gradcam_command([str(out / f"{chips.name}-1" / "checkpoint.pt"), *wanted]) == 0
    with Image.open(picture) as panels:  # image, mask, probability, two maps, their difference
        assert panels.size == (6 * 32, 32)
        mask = open_chips_of(chips, "test").read([0])[1][0]
        np.testing.assert_array_equal(np.asarray(panels)[:, 32:64, 0], 255 * mask)


def test_axes_change_what_their_names_say(chips: Path, tmp_path: Path):
    """Subsets that a set lacks are left out; the layout of Landslide4Sense has all of them."""
    small = {t.name: t.config.view for t in axes.sensor(config(chips))}
    assert list(small) == ["no-terrain", "all", "all-20m", "all-30m"]
    assert small["no-terrain"].bands == ("red", "nir")
    assert small["all-30m"].coarsen == 3
    mapped = axes.sensor(replace(config(chips), network="prithvi_tiny"))[2]
    assert (mapped.name, mapped.config.network) == ("all-adapter", "prithvi_tiny_adapter")
    full = {t.name: t.config.view.bands for t in axes.sensor(config(tmp_path))}
    assert full["hls-six"] == ("blue", "green", "red", "nir", "swir16", "swir22")
    assert (len(full["rgb"]), len(full["no-terrain"])) == (3, 12)
    shares = [t.config.view.label_share for t in axes.label(config(chips))]
    assert shares == [0.0125, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0]
    assert axes.domain(config(chips), [tmp_path])[0].targets == (tmp_path,)
    assert [t.name for t in axes.networks([config(chips)])][-1] == "slides_unet_tiny 2.5%"


def test_bands_are_chosen_by_what_they_tell_about_the_label(tmp_path: Path, capsys):
    """Two bands show the slides, one of them a copy of the other with noise; two show nothing."""
    random = np.random.default_rng(2)
    bands = ("red", "nir", "slope", "elevation")
    write_info(tmp_path, ChipSetInfo(bands=bands))
    for number in range(6):
        mask = (random.random((32, 32)) < 0.2).astype(np.uint8)
        red = random.normal(2.0 * mask, 1.0)
        copy, *others = random.normal(0, 1, (3, 32, 32))
        image = np.stack([red, red + 0.05 * copy, *others])
        image[3] += 0.3 * mask
        image[2, 0, :4] = np.nan
        write_chip(tmp_path, "train", str(number), image.astype(np.float32), mask)
    chips = open_chips_of(tmp_path, "train")
    found = band_information(chips, bins=16)
    image_NBYX, mask_NYX = chips.read(range(6))
    flat = image_NBYX[:, 0].ravel()
    classes = np.searchsorted(np.quantile(flat, np.linspace(0, 1, 17)[1:-1]), flat, side="right")
    expected = mutual_info_score(mask_NYX.ravel(), classes) / np.log(2)
    assert found.label_bits_B[0] == pytest.approx(expected, rel=1e-6)
    assert found.entropy_bits == pytest.approx(mutual_bits(*[mask_NYX.ravel()] * 2))
    assert found.most(2) == ("red", "nir")
    assert found.least(2) == ("slope", "elevation")
    assert found.least_redundant(2)[0] in ("red", "nir")
    assert "elevation" in found.least_redundant(2)  # tells less, but something else
    trials = {t.name: t.config.view.bands for t in axes.bands(config(tmp_path), found, 2)}
    assert trials["most-informative"] == ("red", "nir")
    assert "hls-six" not in trials
    write_chip(tmp_path / "one", "train", "1", image.astype(np.float32), np.zeros((32, 32)))
    write_info(tmp_path / "one", ChipSetInfo(bands=bands))
    with pytest.raises(RequestError, match="one class only"):
        band_information(open_chips_of(tmp_path / "one", "train"))


def test_few_labels_of_another_set_train_and_lock_apart(chips: Path, tmp_path: Path):
    every = open_chips_of(chips, "train")
    training, locking = few_chips(every, 8, seed=1)
    assert (len(training), len(locking)) == (6, 2)
    assert not set(training.names) & set(locking.names)
    assert few_chips(every, 4, seed=1)[0].names != few_chips(every, 4, seed=2)[0].names
    with pytest.raises(RequestError, match="wrong number of target chips"):
        few_chips(every, 9, seed=1)
    settings = ["--set", "steps=2", "--set", "epochs=0", "--set", "batch=2", "--set", "crop_px=32"]
    settings += ["--set", "checks=1", "--recipe", "slides_unet_tiny"]
    settings += ["--shots", "4", "--seeds", "3"]
    arguments = ["few-shot", str(chips), "--target", str(chips), "-o", str(tmp_path), *settings]
    assert slides_command(arguments) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["home", "relocked-4", "tuned-4", "scratch-4"]
    assert rows[1]["test"]["auc"] == pytest.approx(rows[0]["test"]["auc"], abs=1e-3)
    assert rows[1]["threshold"] != rows[0]["threshold"] or rows[1]["platt"] != rows[0]["platt"]
    before = (tmp_path / "results.json").stat().st_mtime_ns
    assert slides_command(arguments) == 0  # nothing is run again
    assert (tmp_path / "results.json").stat().st_mtime_ns == before
    home = load_checkpoint(tmp_path / "home-3" / "checkpoint.pt").config_as(SlidesConfig)
    scale = open_slides(home).scale
    lesson = SlidesLesson(home, chips=training, scale=scale)
    assert lesson.scale is scale
    assert lesson.train_chips.names == training.names


def test_two_stages_are_one_call(chips: Path, tmp_path: Path):
    """The second starts from the weights of the first, at another rate and with adapters."""
    small = ["--set", "epochs=0", "--set", "batch=2", "--set", "crop_px=32", "--set", "checks=1"]
    first = ["epochs=0", "steps=2", "batch=2", "checks=1", "freeze_encoder=true", "lr=0.01"]
    arguments = ["benchmark", str(chips), "-o", str(tmp_path), "--seeds", "5", *small]
    arguments += ["--set", "steps=1", "--set", "lr=1e-12", "--set", "rank=2", "--set", "ema=0"]
    arguments += ["--recipe", "slides_galileo_nano", "--set", "freeze_encoder=true"]
    arguments += [text for setting in first for text in ("--first", setting)]
    assert slides_command(arguments) == 0
    one, two = (
        load_checkpoint(tmp_path / "slides_galileo_nano-5" / path)
        for path in ("first/checkpoint.pt", "checkpoint.pt")
    )
    assert (one.config.run.seed, one.config.schedule.steps) == (5, 2)
    assert one.config_as(SlidesConfig).view.crop_px == 32
    assert two.config_as(SlidesConfig).adapters.rank == 2
    assert any("lora_a" in name for name in two.weights)
    for name, value in one.weights.items():
        if name.startswith("head."):
            torch.testing.assert_close(two.weights[name], value)


@pytest.mark.slow
def test_a_checkpoint_becomes_a_bundle_in_physical_units(chips: Path, tmp_path: Path):
    out = tmp_path / "run"
    settings = ["--set", "steps=60", "--set", "epochs=0", "--set", "lr=0.01", "--set", "batch=4"]
    settings += ["--set", "crop_px=32", "--set", "checks=1", "--recipe", "slides_unet_tiny"]
    slides_command(["benchmark", str(chips), "-o", str(out), "--seeds", "1", *settings])
    path = out / "slides_unet_tiny-1" / "checkpoint.pt"
    named = ["--data", "squares", "--licence", "none", "--window", "32", "--halo", "8"]
    folder = tmp_path / "landslide-squares"
    assert export_command([str(path), "-o", str(folder), *named]) == 0
    bundle = load_bundle(str(folder))
    spec = bundle.spec
    assert spec.task == "landslide"
    assert spec.deviation
    assert spec.bands == BANDS
    scale = open_slides(load_checkpoint(path).config_as(SlidesConfig)).scale
    np.testing.assert_allclose(spec.mean, scale.mean_B * FACTORS)
    assert bundle.golden["logits"].shape == (1, 2, 32, 32)
    assert spec.metrics["f1"] > 0.6
    assert spec.prior[1] == pytest.approx(63 / 1024, abs=1e-4)  # of the validation chips
    assert "squares" in bundle.files["card.md"].decode()


def test_gradcam_is_the_gradient_times_the_map_where_that_is_linear():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.Conv2d(2, 1, 1))
    for layer, weight, bias in (
        (network[0], [1.0, -1.0], [0.0, 0.5]),
        (network[1], [2.0, 6.0], [0.1]),
    ):
        layer.weight.data = torch.tensor(weight).reshape(layer.weight.shape)
        layer.bias.data = torch.tensor(bias)
    z = np.random.default_rng(1).normal(size=(1, 4, 4)).astype(np.float32)
    got = signed_gradcam(network, z, "0")
    first, second = z[0], 0.5 - z[0]
    p = expit(2 * first + 6 * second + 0.1)
    slope = (p * (1 - p)).mean()
    np.testing.assert_allclose(got, slope * (2 * first + 6 * second), rtol=1e-4)
    assert (got < 0).any()
    assert diverging(np.array([[1.0, -1.0, 0.0]], np.float32)).tolist() == [
        [[255, 0, 0], [0, 0, 255], [255, 255, 255]]
    ]
    with pytest.raises(RequestError, match="no such layer"):
        signed_gradcam(network, z, "7")


def test_a_second_stage_trains_adapters_alone_and_starts_where_the_first_ended(
    chips: Path, tmp_path: Path
):
    bands = {"bands": ("red", "nir", "slope", "elevation"), "freeze_encoder": True, "steps": 2}
    first = with_values(config(chips, **bands), network="galileo_nano")
    one = run(first, open_slides(first), LogReporter(lambda _: None))
    one.save(tmp_path / "one.pt")
    second = with_values(first, init=str(tmp_path / "one.pt"), rank=2, lr=0.1)
    lesson = open_slides(second)
    network = lesson.network()
    assert start_from(network, second) == "all but the adapters"
    z = torch.randn(1, 4, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(z), one.network()(z))
    two = run(second, lesson, LogReporter(lambda _: None))
    assert any(value.abs().sum() > 0 for name, value in two.weights.items() if "lora_b" in name)
    for name, value in two.weights.items():
        if name.startswith("encoder.") and "lora_" not in name:
            assert torch.equal(value, one.weights[name.replace(".base.", ".")]), name
    merged = two.network()
    assert not [name for name, _ in merged.named_parameters() if "lora_" in name]


@pytest.mark.parametrize("name", ["landslide-s2-synthetic", "landslide-rgb"])
def test_shipped_bundles_are_small_and_say_what_they_saw(name: str):
    bundle = load_bundle(name)
    assert sum(len(data) for data in bundle.files.values()) < 6e6
    assert bundle.spec.deviation
    card = bundle.files["card.md"].decode()
    assert "What it has not seen" in card
    assert bundle.spec.training["data"] in card
    assert ("CC BY-NC" in card) == (name == "landslide-rgb")


def test_the_shipped_rgb_bundle_finds_slides_of_real_scenes_that_it_saw(data_dir: Path):
    """Its figures on scenes that it had not seen are in its manifest; this holds its units."""
    bundle = load_bundle("landslide-rgb")
    counts = PixelCounts()
    for photo in read_photos(data_dir / "hokkaido-iburi-rgb-mini")[1:14:6]:
        found = probabilities(bundle, photo.pixels_BYX) >= bundle.spec.thresholds.balanced
        counts += PixelCounts.of(found, photo.mask_YX > 0)
    assert counts.figures()["f1"] > 0.6


@pytest.mark.slow
def test_the_shipped_rgb_bundle_marks_next_to_nothing_in_a_ruined_town(data_dir: Path):
    """Kahramanmaraş after the earthquake, which no training saw: rubble, roofs and bare lots."""
    folder = data_dir / "kahramanmaras-2023-main" / "imagery"
    (share,) = alarms(load_bundle("landslide-rgb"), list(folder.glob("*_post_*.tif"))).values()
    assert share < 0.03
