"""Parts of transformers and of UPerNet, against slow loops and torch's own."""

import math

import pytest
import torch
from torch import nn

from training.networks.upernet import SquarePool
from training.networks.vit import FusedAttention, SplitAttention, as_map, resized, sincos_3d


def slow_code(width: int, frame: int, row: int, column: int) -> list[float]:
    """The three-dimensional code of one patch, written out."""
    code = []
    for part, place in (
        (6 * width // 16, column),
        (6 * width // 16, row),
        (4 * width // 16, frame),
    ):
        angles = [place / 10_000 ** (k / (part / 2)) for k in range(part // 2)]
        code += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return code


def test_the_fixed_code_is_that_of_a_slow_loop() -> None:
    code = sincos_3d(32, 2, 3, 4)
    assert code.shape == (1, 1 + 2 * 3 * 4, 32)
    assert not code[0, 0].any()
    places = [(t, y, x) for t in range(2) for y in range(3) for x in range(4)]
    expected = torch.tensor([slow_code(32, *place) for place in places])
    torch.testing.assert_close(code[0, 1:], expected)


def test_a_resized_code_keeps_corners_class_and_frames() -> None:
    code = sincos_3d(32, 2, 4, 4)
    assert resized(code, 4, 4) is code
    wide = resized(code, 4, 7)
    assert wide.shape == (1, 1 + 2 * 49, 32)
    torch.testing.assert_close(wide[:, 0], code[:, 0])
    old, new = code[0, 1:].reshape(2, 4, 4, 32), wide[0, 1:].reshape(2, 7, 7, 32)
    torch.testing.assert_close(new[:, ::6, ::6], old[:, ::3, ::3])  # corner onto corner
    torch.testing.assert_close(new[:, ::2, ::2], old, atol=1e-5, rtol=0)  # and all shared nodes


def test_both_attentions_are_torchs_own() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 12)
    oracle = nn.MultiheadAttention(12, 3, batch_first=True)
    nn.init.normal_(oracle.in_proj_bias)
    fused, split = FusedAttention(12, 3), SplitAttention(12, 3)
    with torch.no_grad():
        fused.qkv.weight.copy_(oracle.in_proj_weight)
        fused.qkv.bias.copy_(oracle.in_proj_bias)
        for layer, weight, bias in zip(
            (split.q, split.k, split.v),
            oracle.in_proj_weight.chunk(3),
            oracle.in_proj_bias.chunk(3),
            strict=True,
        ):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        for ours in (fused, split):
            ours.proj.load_state_dict(oracle.out_proj.state_dict())
            torch.testing.assert_close(ours(tokens), oracle(tokens, tokens, tokens)[0])


def test_tokens_become_a_map_frame_by_frame() -> None:
    tokens = torch.arange(2 * 2 * 9 * 4).reshape(2, 18, 4)
    found = as_map(tokens, 3)
    assert found.shape == (2, 8, 3, 3)
    assert torch.equal(found[1, 4:, 2, 1], tokens[1, 9 + 2 * 3 + 1])


@pytest.mark.parametrize("shape", [(14, 14), (7, 7), (4, 9), (2, 2)])
@pytest.mark.parametrize("side", [1, 2, 3, 6])
def test_pooling_is_adaptive_pooling(shape: tuple[int, int], side: int) -> None:
    image = torch.randn(2, 3, *shape)
    expected = nn.functional.adaptive_avg_pool2d(image, side)
    torch.testing.assert_close(SquarePool(side)(image), expected)
