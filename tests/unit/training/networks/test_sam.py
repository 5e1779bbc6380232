"""Segment Anything: published names, shapes and counts, and its parts against plain forms."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quakestream.errors import ConfigError, RequestError, ShapeError
from training.networks.sam import SIZES, Sam, SamSize, build_sam
from training.networks.sam_encoder import (
    PlacedAttention,
    SamEncoderSize,
    into_windows,
    out_of_windows,
)
from training.networks.sam_prompts import Prompts

SMALL = SamSize(
    encoder=SamEncoderSize(
        width=16, depth=2, heads=2, global_blocks=(1,), image_px=48, patch_px=8, window=4
    ),
    channels=16,
    mlp=24,
    heads=2,
)


def published(size: SamSize) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file, written out from their description."""
    e, c, m = size.encoder, size.channels, size.mlp
    d, head, patch = e.width, e.width // e.heads, e.patch_px
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, *shape: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    shapes["image_encoder.pos_embed"] = (1, e.side, e.side, d)
    linear("image_encoder.patch_embed.proj", d, 3, patch, patch)
    for i in range(e.depth):
        block = f"image_encoder.blocks.{i}"
        rows = 2 * (e.side if i in e.global_blocks else e.window) - 1
        for name in ("norm1", "norm2"):
            linear(f"{block}.{name}", d)
        linear(f"{block}.attn.qkv", 3 * d, d)
        linear(f"{block}.attn.proj", d, d)
        shapes |= {f"{block}.attn.rel_pos_{axis}": (rows, head) for axis in "hw"}
        linear(f"{block}.mlp.lin1", 4 * d, d)
        linear(f"{block}.mlp.lin2", d, 4 * d)
    shapes["image_encoder.neck.0.weight"] = (c, d, 1, 1)
    shapes["image_encoder.neck.2.weight"] = (c, c, 3, 3)
    linear("image_encoder.neck.1", c)
    linear("image_encoder.neck.3", c)
    prompt = "prompt_encoder"
    shapes[f"{prompt}.pe_layer.positional_encoding_gaussian_matrix"] = (2, c // 2)
    shapes |= {f"{prompt}.point_embeddings.{i}.weight": (1, c) for i in range(4)}
    shapes |= {f"{prompt}.{n}.weight": (1, c) for n in ("not_a_point_embed", "no_mask_embed")}
    for n, shape in ((0, (4, 1, 2, 2)), (1, (4,)), (3, (16, 4, 2, 2)), (4, (16,))):
        linear(f"{prompt}.mask_downscaling.{n}", *shape)
    linear(f"{prompt}.mask_downscaling.6", c, 16, 1, 1)
    decoder = "mask_decoder"
    shapes |= {f"{decoder}.iou_token.weight": (1, c), f"{decoder}.mask_tokens.weight": (4, c)}
    for i in range(2):
        layer = f"{decoder}.transformer.layers.{i}"
        for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            attention(linear, f"{layer}.{name}", c, c if name == "self_attn" else c // 2)
        linear(f"{layer}.mlp.lin1", m, c)
        linear(f"{layer}.mlp.lin2", c, m)
        for n in range(1, 5):
            linear(f"{layer}.norm{n}", c)
    attention(linear, f"{decoder}.transformer.final_attn_token_to_image", c, c // 2)
    linear(f"{decoder}.transformer.norm_final_attn", c)
    for n, c_in, c_out in ((0, c, c // 4), (3, c // 4, c // 8)):
        shapes[f"{decoder}.output_upscaling.{n}.weight"] = (c_in, c_out, 2, 2)
        shapes[f"{decoder}.output_upscaling.{n}.bias"] = (c_out,)
    linear(f"{decoder}.output_upscaling.1", c // 4)
    heads = {f"{decoder}.output_hypernetworks_mlps.{i}": c // 8 for i in range(4)}
    for name, c_out in (heads | {f"{decoder}.iou_prediction_head": 4}).items():
        for n, wide in enumerate((c, c, c_out)):
            linear(f"{name}.layers.{n}", wide, c)
    return shapes


def attention(linear: object, name: str, channels: int, inner: int) -> None:
    for part in "qkv":
        linear(f"{name}.{part}_proj", inner, channels)  # type: ignore[operator]
    linear(f"{name}.out_proj", channels, inner)  # type: ignore[operator]


def made_up(size: SamSize) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {n: torch.randn(s, generator=generator) * 0.1 for n, s in published(size).items()}


@pytest.mark.parametrize(
    ("name", "encoder"), [("b", 89_670_912), ("l", 308_278_272), ("h", 637_026_048)]
)
def test_names_shapes_and_counts_are_the_published_ones(name: str, encoder: int) -> None:
    with torch.device("meta"):
        sam = build_sam(name)
    assert {n: tuple(v.shape) for n, v in sam.state_dict().items()} == published(SIZES[name])
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (sam.image_encoder, sam.prompt_encoder, sam.mask_decoder)
    ]
    assert counts == [encoder, 6_220, 4_058_340]


def test_a_file_in_the_published_layout_is_loaded_whole(tmp_path: Path) -> None:
    weights = made_up(SMALL)
    torch.save(weights, tmp_path / "sam.pth")
    sam = Sam(SMALL)
    report = sam.load_published(tmp_path / "sam.pth")
    assert set(report.loaded) == set(weights) == set(sam.state_dict())
    assert report.missing == report.dropped == report.resized == ()
    assert all(torch.equal(v, weights[n]) for n, v in sam.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("mask_decoder.iou_token.weight"), "missing mask_decoder.iou_token.weight"),
        (lambda w: w.update({"image_encoder.extra": torch.ones(1)}), "unexpected image_encoder.e"),
        (
            lambda w: w.update({"image_encoder.neck.1.bias": torch.ones(3)}),
            r"other shape image_encoder.neck.1.bias \(expected \(16,\), got \(3,\)\)",
        ),
        (
            lambda w: w["image_encoder.neck.1.bias"].fill_(float("nan")),
            "not finite image_encoder.neck.1.bias",
        ),
    ],
)
def test_any_other_file_is_refused_and_changes_nothing(
    tmp_path: Path, change: object, words: str
) -> None:
    weights = made_up(SMALL)
    change(weights)  # type: ignore[operator]
    torch.save(weights, tmp_path / "sam.pth")
    sam = Sam(SMALL)
    before = {n: v.clone() for n, v in sam.state_dict().items()}
    with pytest.raises(RequestError, match=words):
        sam.load_published(tmp_path / "sam.pth")
    assert all(torch.equal(v, before[n]) for n, v in sam.state_dict().items())


def test_position_codes_are_resized_for_another_side(tmp_path: Path) -> None:
    torch.save(made_up(SMALL), tmp_path / "sam.pth")
    other = Sam(replace(SMALL, encoder=replace(SMALL.encoder, image_px=64)))
    report = other.load_published(tmp_path / "sam.pth")
    tables = {f"image_encoder.blocks.1.attn.rel_pos_{axis}" for axis in "hw"}
    assert set(report.resized) == tables | {"image_encoder.pos_embed"}
    assert other.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 8, 8)


def test_relative_positions_equal_the_plain_sum() -> None:
    torch.manual_seed(0)
    attention = PlacedAttention(8, 2, 3)
    with torch.no_grad():
        attention.rel_pos_h.normal_()
        attention.rel_pos_w.normal_()
    x = torch.randn(1, 3, 3, 8)
    query, key, value = attention.qkv(x).reshape(9, 3, 2, 4).unbind(1)
    mixed = torch.zeros(9, 2, 4)
    for head in range(2):
        logits = query[:, head] @ key[:, head].T / 2.0
        for a in range(9):
            for b in range(9):
                down = attention.rel_pos_h[a // 3 - b // 3 + 2]
                right = attention.rel_pos_w[a % 3 - b % 3 + 2]
                logits[a, b] += query[a, head] @ (down + right)
        mixed[:, head] = logits.softmax(dim=1) @ value[:, head]
    expected = attention.proj(mixed.flatten(1)).reshape(1, 3, 3, 8)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_windows_come_back_and_one_window_is_the_whole() -> None:
    x = torch.randn(2, 7, 5, 3)
    windows = into_windows(x, 4)
    assert windows.shape == (2 * 2 * 2, 4, 4, 3)
    assert torch.equal(out_of_windows(windows, x.shape, 4), x)
    assert torch.equal(into_windows(torch.ones(1, 4, 4, 1), 4), torch.ones(1, 4, 4, 1))


def test_an_answer_depends_on_its_own_image_and_prompt_alone() -> None:
    torch.manual_seed(1)
    sam = Sam(SMALL).eval()
    embedding = sam.embed(torch.rand(2, 3, 48, 48) * 255)
    box = torch.tensor([[4.0, 4, 20, 20], [8.0, 9, 30, 40], [4.0, 4, 20, 20]])
    masks, iou = sam.masks(embedding, Prompts(box_N4=box), torch.tensor([0, 1, 1]))
    assert masks.shape == (3, 4, 24, 24)
    alone, _ = sam.masks(embedding[1:], Prompts(box_N4=box[2:]))
    assert torch.allclose(masks[2:], alone, atol=1e-5)
    assert not torch.allclose(masks[0], masks[2], atol=1e-3)
    point = Prompts(point_N2=box[:, None, :2], kind_N=torch.ones(3, 1, dtype=torch.int64))
    rough = Prompts(box_N4=box[:1], mask_N1YX=torch.randn(1, 1, 24, 24))
    by_point, _ = sam.masks(embedding[:1], point)
    by_mask, _ = sam.masks(embedding[:1], rough)
    assert not torch.allclose(by_point[0], masks[0], atol=1e-3)
    assert not torch.allclose(by_mask[0], masks[0], atol=1e-3)
    assert iou.shape == (3, 4)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown SAM"):
        build_sam("xl")
    with pytest.raises(ConfigError, match="side does not fit"):
        build_sam("tiny", image_px=100)
    with pytest.raises(ShapeError, match="do not fit together"):
        Prompts()
    with pytest.raises(ShapeError, match="image does not fit"):
        Sam(SMALL).embed(torch.zeros(1, 3, 40, 48))
