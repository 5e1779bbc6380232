"""Wrong labels of an event come first in the list of labels to check."""

from dataclasses import replace

import numpy as np

from training.adapt.doubts import as_plain, doubt, labels_to_check
from training.adapt.head import Examples, fit_head, left_out_logits


def test_a_wrong_label_is_named_first_with_its_reason() -> None:
    rng = np.random.default_rng(0)
    destroyed = np.arange(80) % 3 == 0
    feature_ND = rng.normal(size=(80, 4)).astype(np.float32)
    feature_ND[:, 1] += 5.0 * destroyed
    wrong = destroyed.copy()
    wrong[10] = True
    examples = Examples(feature_ND=feature_ND, destroyed_N=wrong, block_N=np.arange(80) // 4)
    ids = np.array([f"b{i}" for i in range(80)], object)
    p_N = 1 / (1 + np.exp(-left_out_logits(examples)))
    checks = labels_to_check(ids, examples, fit_head(examples), p_N)
    assert checks[0].item == "b10"
    assert all(check.probability < 0.3 for check in checks)
    told = as_plain(checks)[0]
    assert told["label"] == "destroyed"
    assert told["reason"].startswith("doubtful: labelled destroyed, ")
    sure = replace(checks[0], probability=0.012)
    assert doubt(sure) == "probably wrong: labelled destroyed, 1 % likely by the other labels"
    assert 0.01 < told["share"] < 0.5


def test_a_head_that_knows_nothing_doubts_no_label() -> None:
    rng = np.random.default_rng(1)
    feature_ND = rng.normal(size=(60, 4)).astype(np.float32)
    examples = Examples(
        feature_ND=feature_ND, destroyed_N=rng.random(60) < 0.3, block_N=np.arange(60) // 4
    )
    ids = np.array([f"b{i}" for i in range(60)], object)
    p_N = 1 / (1 + np.exp(-left_out_logits(examples)))
    assert labels_to_check(ids, examples, fit_head(examples), p_N) == []
