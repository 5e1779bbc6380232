"""Standing rows of a store of chips whose numbers are known."""

import numpy as np
import pytest

from tests.helpers.training_data_case import MadeStore, make_store
from training.chip_standing import AREA, chip_standing, plain_numbers
from training.data.store import ChipStore
from training.evaluation_set import EvaluationSet, StoreRows


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeStore:
    return make_store(str(tmp_path_factory.mktemp("s") / "store"), chips=120, shard_chips=60)


def split(store: ChipStore, *, train: bool = True) -> EvaluationSet:
    known = np.flatnonzero(store.table["label"] >= 0)
    none = known[:0]
    return EvaluationSet(
        buildings=StoreRows(store=store),
        rows={"train": known[::2] if train else none, "validation": none, "test": known[1::2]},
        name="half",
    )


def test_numbers_are_those_of_the_pixels(made: MadeStore) -> None:
    store = ChipStore.open(made.uri)
    table = plain_numbers(store, np.array([4, 7]))
    inside = made.arrays["inside"][[4, 7]].sum(axis=(1, 2))
    assert table[AREA].tolist() == (inside * 0.25).tolist()
    statistics = store.read([4]).statistics_N4B[0]
    z_BYX = (made.arrays["post"][4] - statistics[2][:, None, None]) / statistics[3][:, None, None]
    assert table["post_mean"][0] == pytest.approx(z_BYX.mean(), rel=1e-5)
    assert table["post_deviation"][0] == pytest.approx(z_BYX.mean(axis=0).std(), rel=1e-5)
    assert {"pre_edges", "difference", "dpm"} <= set(table.columns)


def test_a_value_that_gives_the_grade_away_shows(made: MadeStore) -> None:
    store = ChipStore.open(made.uri)
    store.table["dpm"] = store.table["label"] + 0.0
    found = chip_standing(split(store))
    assert set(found) == {
        "area alone",
        "before alone",
        "after in three numbers",
        "difference",
        "hazard values alone",
    }
    assert found["hazard values alone"]["macro_auc"] > 0.95
    assert found["area alone"]["macro_auc"] < 0.8
    assert chip_standing(split(store, train=False)) == {}
