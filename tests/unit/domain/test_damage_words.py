"""Damage words: each means the same wherever it is read."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from quakestream.domain import ScaleClass
from quakestream.domain.damage_words import (
    BUNDLE_SCALES,
    COPERNICUS,
    FIELD_SURVEY,
    FIELD_SURVEY_DAMAGED,
    PLAIN,
    SCORED_SCALES,
    SEVERITY,
    SYNTHETIC,
    XBD,
    DamageScale,
    scale_with,
)
from quakestream.outputs.truth import TruthRequest, read_truth
from quakestream.synthetic.shaking import GRADES

labels = pytest.importorskip("training.data.labels", reason="training is not installed")
scales = pytest.importorskip("training.scales", reason="training is not installed")
OTHER_LABELS = (
    ScaleClass(index=0, label="green", xbd="no", ems98=(0,), copernicus="No visible damage"),
    ScaleClass(index=1, label="red", xbd="destroyed", ems98=(5,), copernicus="Destroyed"),
)
"""A bundle whose own labels are words of no scale."""


def words(scale: DamageScale) -> Iterator[str]:
    for c in scale.classes:
        yield from c.all_words
    yield from scale.unknown


def scored(path: Path, values: list[str], classes: tuple[ScaleClass, ...]) -> list[str]:
    """What scoring makes of values."""
    ids = [str(n) for n in range(len(values))]
    pd.DataFrame({"building_id": ids, "grade_of": values}).to_csv(path, index=False)
    truth = read_truth(TruthRequest(uri=str(path), column="grade_of"), classes)
    grades: list[str] = truth.items["grade"].tolist()
    return grades


@pytest.mark.parametrize("scale", [COPERNICUS, XBD], ids=lambda s: s.name)
def test_each_word_means_the_same_for_scoring_and_for_training(
    scale: DamageScale, tmp_path: Path
) -> None:
    values = list(words(scale))
    trained = labels.label_scale(scale).index_of(pd.Series(values), "test")
    classes = scales.scale_of(scale.labels)
    for value, position, grade in zip(
        values, trained, scored(tmp_path / "truth.csv", values, OTHER_LABELS), strict=True
    ):
        if position < 0:
            assert grade == "ignored", value
        elif scale.classes[position].uncertain:
            assert (grade, SEVERITY[classes[position].xbd]) == ("ignored", -1), value
        else:
            assert grade == classes[position].xbd, value


@pytest.mark.parametrize("scale", [FIELD_SURVEY, FIELD_SURVEY_DAMAGED], ids=lambda s: s.name)
def test_a_survey_is_scored_by_the_labels_of_its_bundle(scale: DamageScale, tmp_path: Path) -> None:
    classes = scales.scale_of(scale.labels)
    values = list(scale.labels)
    trained = labels.label_scale(scale).index_of(pd.Series(values), "test")
    grades = scored(tmp_path / "truth.csv", values, classes)
    assert grades == [classes[position].xbd for position in trained]


def test_a_word_has_one_meaning_in_its_scale_and_scales_do_not_contradict_each_other() -> None:
    for scale in (*SCORED_SCALES, *BUNDLE_SCALES):
        lower = [word.lower() for word in words(scale)]
        assert len(lower) == len(set(lower)), scale.name
        severity = [SEVERITY[c.xbd] for c in scale.classes]
        assert [s for s in severity if s >= 0] == sorted(s for s in severity if s >= 0)
    for scale in (COPERNICUS, XBD, PLAIN):
        for other in (COPERNICUS, XBD, PLAIN):
            shared = scale.grades().keys() & other.grades().keys()
            assert {scale.grades()[w] for w in shared} == {other.grades()[w] for w in shared}
            assert all(scale.grades()[w] == other.grades()[w] for w in shared)


def test_scales_are_found_by_their_labels() -> None:
    for scale in BUNDLE_SCALES:
        assert scale_with(scale.labels) == scale
        assert [c.label for c in scales.scale_of(scale.labels)] == list(scale.labels)
    assert scale_with(("good", "bad")) is None
    assert SYNTHETIC.labels == GRADES
    assert scale_with(("slight", "heavy", "destroyed")) == SYNTHETIC
