"""Official weights: synthetic files with the official names, whole, odd and wrong ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quakestream.errors import RequestError
from training.networks import MetaFormer, NetworkInputs, build_network
from training.networks.attention import relative_index
from training.networks.official import Resize, load_official, resize_bias

TABLE = "attn.relative_position_bias_table"


def tiny(crop_px: int = 64, name: str = "qif_tiny", seed: int = 0, **sizes: Any) -> MetaFormer:
    torch.manual_seed(seed)
    network = build_network(name, inputs=NetworkInputs(crop_px=crop_px, **sizes))
    assert isinstance(network, MetaFormer)
    return network


def official(network: MetaFormer) -> dict[str, Tensor]:
    """The network's weights as the official code would have saved them."""
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    for stage, side in (("stage_3", network.stage_3.side), ("stage_4", network.stage_4.side)):
        blocks = {n.split(".")[1] for n in weights if n.startswith(stage)}
        for block in blocks:
            index = relative_index(side, extra=1)
            weights[f"{stage}.{block}.attn.relative_position_index"] = index
    return weights


def saved(value: Any, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(value, path)
    return path


@pytest.mark.parametrize("wrapper", ["model", "state_dict_ema", None])
def test_weights_come_back_whatever_they_are_wrapped_in(
    wrapper: str | None, tmp_path: Path
) -> None:
    source, network = tiny(seed=1), tiny(seed=2)
    weights = official(source)
    path = saved({wrapper: weights, "epoch": 3} if wrapper else weights, tmp_path)
    report = load_official(network, path)
    assert report.missing == ("head.weight", "head.bias")
    assert (report.unexpected, report.resized) == ((), ())
    assert set(report.dropped) == {n for n in weights if "index" in n or n.startswith("head.")}
    for name, value in network.state_dict().items():
        if name not in report.missing:
            torch.testing.assert_close(value, source.state_dict()[name], rtol=0, atol=0)
    assert not torch.equal(network.head.weight, source.head.weight)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = source.eval().features(image)
        torch.testing.assert_close(network.eval().features(image), expected)


def test_plain_weights_win_over_their_average(tmp_path: Path) -> None:
    plain, average, network = tiny(seed=1), tiny(seed=2), tiny(seed=3)
    path = saved({"state_dict_ema": official(average), "model": official(plain)}, tmp_path)
    load_official(network, path)
    torch.testing.assert_close(network.cls_token_1, plain.cls_token_1)


def test_metadata_encoders_stay_untrained(tmp_path: Path) -> None:
    groups = {"hazard_groups": (4, 1), "classes": 5}
    network = tiny(name="qmf_tiny", **groups)
    before = {n: v.clone() for n, v in network.state_dict().items()}
    weights = official(tiny(name="qmf_tiny", seed=1, hazard_groups=(4, 1, 7)))
    weights["point_coord"] = torch.zeros(2)
    report = load_official(network, saved(weights, tmp_path))
    assert report.missing
    assert all(n.startswith(("head.", "meta_")) for n in report.missing)
    assert {"point_coord", "meta_3_head_2.0.weight"} <= set(report.dropped)
    for name in report.missing:
        torch.testing.assert_close(network.state_dict()[name], before[name])
    assert set(report.loaded) | set(report.missing) == set(before)


@pytest.mark.parametrize("resize", ["official", "exact"])
def test_biases_are_resized_to_the_crop(resize: Resize, tmp_path: Path) -> None:
    source, network = tiny(64), tiny(96, seed=1)
    report = load_official(network, saved(official(source), tmp_path), resize=resize)
    assert set(report.resized) == {n for n in report.loaded if n.endswith(TABLE)}
    table = network.state_dict()[f"stage_3.0.{TABLE}"]
    expected = resize_bias(source.state_dict()[f"stage_3.0.{TABLE}"], 11**2 + 1, resize)
    torch.testing.assert_close(table, expected)
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 96, 96)).isfinite().all()


def test_one_image_becomes_two_dates(tmp_path: Path) -> None:
    source, network = tiny(), tiny(seed=1, bands=6)
    report = load_official(network, saved(official(source), tmp_path))
    assert report.resized == ("stage_0.0.weight",)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = source.stage_0[0](image)
        torch.testing.assert_close(
            network.stage_0[0](image.repeat(1, 2, 1, 1)), expected, atol=1e-5, rtol=1e-5
        )


@given(side=st.integers(1, 9), resize=st.sampled_from(["official", "exact"]))
def test_a_table_of_the_right_size_is_left_alone(side: int, resize: Resize) -> None:
    table = torch.randn((2 * side - 1) ** 2 + 1, 2)
    assert resize_bias(table, len(table), resize) is table


@given(side=st.integers(2, 6), times=st.integers(1, 4))
def test_exact_keeps_the_bias_of_every_offset_that_both_grids_have(side: int, times: int) -> None:
    wide = times * (side - 1) + 1  # offsets of the small grid, `times` apart
    table = torch.randn((2 * side - 1) ** 2 + 1, 2)
    resized = resize_bias(table, (2 * wide - 1) ** 2 + 1, "exact")
    old = table[:-1].reshape(2 * side - 1, 2 * side - 1, 2)
    new = resized[:-1].reshape(2 * wide - 1, 2 * wide - 1, 2)
    torch.testing.assert_close(new[::times, ::times], old, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(resized[0], table[0], atol=1e-5, rtol=1e-5)  # extra tokens
    torch.testing.assert_close(resized[-1], table[-1])


def test_official_keeps_row_0_and_reads_the_grid_one_row_late() -> None:
    side, wide = 3, 5
    table = torch.randn((2 * side - 1) ** 2 + 1, 1)
    resized = resize_bias(table, (2 * wide - 1) ** 2 + 1, "official")
    assert resized.shape == ((2 * wide - 1) ** 2 + 1, 1)
    assert resized[0] == table[0]
    # The middle of the grid that starts at row 1 is kept: one row past the bias of no offset.
    torch.testing.assert_close(resized[1 + 9 * 4 + 4], table[1 + 5 * 2 + 2], atol=1e-5, rtol=1e-5)


def naive_cubic(offset: float) -> float:
    """The bicubic kernel of a = -0.75."""
    x, a = abs(offset), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize("resize", ["official", "exact"])
def test_resizing_is_bicubic(resize: Resize) -> None:
    old, new = 5, 9
    table = torch.randn(old**2 + 1, 1)
    grid = (table[1:] if resize == "official" else table[:-1]).reshape(old, old).double().numpy()
    weights = np.zeros((new, old))
    for i in range(new):
        at = i * (old - 1) / (new - 1) if resize == "exact" else (i + 0.5) * old / new - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weights[i, min(max(tap, 0), old - 1)] += naive_cubic(at - tap)
    expected = (weights @ grid @ weights.T).reshape(-1, 1)
    resized = resize_bias(table, new**2 + 1, resize)
    got = resized[1:] if resize == "official" else resized[:-1]
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_another_size_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    network = tiny()
    before = {n: v.clone() for n, v in network.state_dict().items()}
    with torch.device("meta"):
        other = build_network("qif_0", inputs=NetworkInputs(crop_px=64))
    weights = {n: torch.zeros(v.shape, dtype=v.dtype) for n, v in other.state_dict().items()}
    with pytest.raises(RequestError) as caught:
        load_official(network, saved(weights, tmp_path))
    message = str(caught.value)
    assert "not the weights of this MetaFormer" in message
    assert "unexpected stage_2.2." in message
    assert "other shape cls_token_1 (expected (1, 1, 96), got (1, 1, 384))" in message
    assert "\n" not in message
    assert len(message) < 600
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    weights = build_network("fc_siam_diff_small").state_dict()
    with pytest.raises(RequestError, match=r"0 of \d+ names found.*missing cls_token_1.*encoder"):
        load_official(tiny(), saved(weights, tmp_path))


@pytest.mark.parametrize("rows", [0, 1, 7, 17])
def test_a_table_that_is_no_grid_is_refused(rows: int, tmp_path: Path) -> None:
    weights = official(tiny())
    weights[f"stage_4.0.{TABLE}"] = torch.zeros(rows, 4)
    with pytest.raises(RequestError, match=rf"other shape stage_4.0.{TABLE}"):
        load_official(tiny(), saved(weights, tmp_path))


def test_one_lost_weight_is_named(tmp_path: Path) -> None:
    weights = official(tiny())
    del weights["aggregate.bias"]
    with pytest.raises(RequestError, match=r"missing aggregate\.bias; use"):
        load_official(tiny(), saved(weights, tmp_path))


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    weights = official(tiny())
    weights["norm.weight"][0] = torch.nan
    with pytest.raises(RequestError, match=r"not finite norm\.weight"):
        load_official(tiny(), saved(weights, tmp_path))


class Runs:
    """Pickles to a call that leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = saved({"model": official(tiny()), "config": Runs(mark)}, tmp_path)
    with pytest.raises(RequestError, match="cannot be read as weights alone") as caught:
        load_official(tiny(), path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    torch.save(Runs(mark), path, _use_new_zipfile_serialization=False)
    with pytest.raises(RequestError, match="cannot be read as weights alone"):
        load_official(tiny(), path)
    assert not mark.exists()


@pytest.mark.parametrize("value", [{"model": 3}, [1, 2], {}, {"model": {"a": "b"}}])
def test_a_file_without_weights_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="expected weights by name"):
        load_official(tiny(), saved(value, tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"no pickle"])
def test_what_is_no_file_of_torch_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=r"weights.pth: cannot be read as weights alone"):
        load_official(tiny(), path)
