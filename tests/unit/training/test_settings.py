"""Configurations: settings by key, JSON, and what earlier versions stored."""

from dataclasses import fields

import pytest

from quakestream.bundles import load_bundle
from quakestream.errors import ConfigError
from training.config import CONFIGS, ChipsConfig, PairsConfig, PretrainConfig, VectorsConfig
from training.recipes import RECIPES, recipe
from training.settings import flat, from_json, keys, to_json, with_settings, with_values

OLD = {
    "recipe": "old",
    "network": "qmf_tiny",
    "lesson": "chips",
    "source": "a/one,b/two",
    "seed": 7,
    "lr": 0.001,
    "schedule": "cosine",
    "held_regions": "",
    "fold": 3,
    "block_m": 150.0,
    "pretext": {"margin": 1.0, "width": 128},
    "rows": {"split": "regions", "held": "north,south", "fold": 1, "seed": 4},
    "grades": {"gamma": 2.0, "hazard_groups": "4,1"},
    "augmentation": {"scale": [0.9, 1.1]},
}
"""As the one flat configuration of all lessons was stored."""


def test_a_configuration_is_small_and_no_lesson_has_the_settings_of_another() -> None:
    for kind in CONFIGS.values():
        assert len(fields(kind)) <= 18, kind
    assert "loss" not in {f.name for f in fields(PretrainConfig)}
    assert "objective" not in {f.name for f in fields(ChipsConfig)}
    assert "chip_px" not in {f.name for f in fields(VectorsConfig)}


def test_a_key_is_a_path_or_a_name_that_comes_once() -> None:
    config = recipe("qmf_tiny")
    by_name = with_settings(config, ["lr=0.5", "schedule=constant", "seed=9", "fold=2"])
    by_path = with_settings(
        config, ["optimiser.lr=0.5", "schedule.shape=constant", "run.seed=9", "rows.fold=2"]
    )
    assert by_name == by_path
    assert by_name == with_values(config, lr=0.5, shape="constant", seed=9, fold=2)
    assert by_name.run.seed == 9
    assert isinstance(by_name, ChipsConfig)
    assert by_name.rows.seed == 0


@pytest.mark.parametrize(
    "text", ["[a, b]", '["a", "b"]', "a,b", "a, b", "['a', 'b']", " [ a ,b ] "]
)
def test_lists_are_lists(text: str) -> None:
    config = with_settings(recipe("fc_siam_diff_small"), [f"held_regions={text}"])
    assert isinstance(config, PairsConfig)
    assert config.split.held_regions == ("a", "b")
    chips = with_settings(recipe("qmf_tiny"), [f"source={text}", "hazard_groups=[3, 6, 1]"])
    assert isinstance(chips, ChipsConfig)
    assert chips.source == ("a", "b")
    assert chips.grades.hazard_groups == (3, 6, 1)


@pytest.mark.parametrize("text", ["[]", ""])
def test_lists_may_be_empty(text: str) -> None:
    config = with_settings(recipe("synthetic_small"), [f"held_regions={text}"])
    assert isinstance(config, PairsConfig)
    assert config.split.held_regions == ()


@pytest.mark.parametrize(
    ("name", "setting", "remedy"),
    [
        ("fc_siam_diff_small", "stps=7", "did you mean steps?"),
        ("fc_siam_diff_small", "optimizer.lr=1", "did you mean optimiser.lr?"),
        ("fc_siam_diff_small", "chip_pix=1", "did you mean chip_px?"),
        ("qmf_tiny", "rows.hel=a", "did you mean rows.held?"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(name: str, setting: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_settings(recipe(name), [setting])
    assert remedy in caught.value.remedy
    assert caught.value.where == f"--set {setting.partition('=')[0]}"


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("fc_siam_diff_small", "steps=many", "a whole number"),
        ("fc_siam_diff_small", "judge_bounds=0", "true or false"),
        ("fc_siam_diff_small", "loss=1", "one of them, as loss.pixel"),
        ("fc_siam_diff_small", "augmentation.scale=1", "2"),
        ("fc_siam_diff_small", "schedule=sine", "one of one_cycle, cosine, constant"),
        ("fc_siam_diff_small", "steps", "key=value"),
        ("qmf_tiny", "gamma=1", "grades.gamma or augmentation.gamma"),
        ("qmf_tiny", "hazard_groups=[a]", "a whole number"),
    ],
)
def test_a_wrong_value_says_what_was_expected(name: str, setting: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_settings(recipe(name), [setting])
    error = caught.value
    assert expected in error.expected
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", RECIPES)
def test_json_gives_the_configuration_back(name: str) -> None:
    config = recipe(name)
    raw = to_json(config)
    assert raw["lesson"] == config.lesson
    assert from_json(raw) == config
    assert set(flat(raw)) - {"lesson"} == set(keys(config))


def test_flat_configurations_of_earlier_versions_are_read() -> None:
    config = from_json(OLD)
    assert isinstance(config, ChipsConfig)
    assert config.source == ("a/one", "b/two")
    assert config.run.seed == 7
    assert (config.optimiser.lr, config.schedule.shape) == (0.001, "cosine")
    rows = config.rows
    assert (rows.split, rows.held, rows.fold, rows.seed) == ("regions", ("north", "south"), 1, 4)
    assert config.grades.hazard_groups == (4, 1)
    assert config.augmentation.scale == (0.9, 1.1)
    pretext = {"recipe": "p", "network": "fc_ef_small", "lesson": "pretext", "source": "turkiye"}
    old = from_json({**pretext, "pretext": {"margin": 2.0, "width": 64}, "fold": 3, "lr": 0.1})
    assert isinstance(old, PretrainConfig)
    assert (old.margin, old.width, old.split.fold, old.optimiser.lr) == (2.0, 64, 3, 0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lesson": "dance"}, "got lesson dance"),
        ({"lesson": None}, "not a training configuration"),
        ({"momentum": 0.9}, "momentum: unknown setting"),
        ({"lr": "fast"}, "optimiser.lr: wrong value"),
        ({"hazard_dropout": 3}, "unknown setting"),
        ({"grades": {"gamma": None}}, "grades.gamma: wrong value"),
    ],
)
def test_what_is_no_configuration_is_refused_with_what_to_do(
    change: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        from_json({**OLD, **change})
    assert "again" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "kind", "split"),
    [
        ("damage-synthetic", PairsConfig, "held-out regions seed-201,seed-202,seed-203"),
        ("damage-turkiye-2023", PairsConfig, "held-out regions none"),
        ("grades-synthetic", ChipsConfig, "regions seed-201,seed-202,seed-203"),
    ],
)
def test_shipped_bundles_still_name_their_recipe(name: str, kind: type, split: str) -> None:
    spec = load_bundle(name).spec
    config = from_json(spec.training["config"])
    assert isinstance(config, kind)
    assert config.network == spec.training["config"]["network"]
    assert config.optimiser.lr == spec.training["config"]["lr"]
    if isinstance(config, PairsConfig):
        assert str(config.split) == split
        assert config.windows.halo_px == spec.training["config"]["halo_px"]
    if isinstance(config, ChipsConfig):
        assert str(config.rows) == split
        assert config.grades.hazard_least == 0.3
