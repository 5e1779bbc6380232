"""QuakeMetaFormer, QuakeImageFormer and hazard networks against the spec and naive versions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from quakestream.errors import ConfigError, ShapeError
from training.networks import MetaFormer, NetworkInputs, build_network, network_names
from training.networks.attention import RelativeAttention, relative_index, table_rows
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.networks.mbconv import MBConv, StochasticDepth
from training.networks.metadata import ENCODERS, metadata_encoder
from training.schedules import mask_metadata

GROUPS = (3, 30, 1)


def inputs(
    crop_px: int = 64, groups: tuple[int, ...] = (), classes: int = 4, learned: bool = False
) -> NetworkInputs:
    return NetworkInputs(
        crop_px=crop_px, classes=classes, hazard_groups=groups, learned_missing=learned
    )


def examples(count: int, *, crop_px: int = 64, groups: tuple[int, ...] = GROUPS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    image_NBYX = torch.randn(count, 3, crop_px, crop_px, generator=generator)
    return [image_NBYX, torch.randn(count, sum(groups), generator=generator)]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


# Million parameters and GMAC per crop, attention's products included, to the printed digits.
PUBLISHED = [
    ("qif_0", 224, 1000, (), "28.72", "4.72"),
    ("qif_1", 224, 1000, (), "45.87", "8.84"),
    ("qif_2", 224, 1000, (), "81.30", "17.49"),
    ("qif_0", 384, 1000, (), "28.79", "14.7"),
    ("qif_1", 384, 1000, (), "46.04", "28.3"),
    ("qif_2", 384, 1000, (), "81.47", "54.5"),
    ("qif_2", 384, 4, (), "80.45", "54.45"),
    ("qmf_2", 384, 4, (3, 30, 1), "88.39", "54.72"),
    ("qmf_2", 384, 4, (3, 6, 1), "88.35", "54.72"),
    ("qmf_2", 384, 5, (4, 1), "85.72", "54.63"),
]


@pytest.mark.parametrize(("name", "crop_px", "classes", "groups", "millions", "gmac"), PUBLISHED)
def test_size_and_cost_are_the_published_ones(
    name: str, crop_px: int, classes: int, groups: tuple[int, ...], millions: str, gmac: str
) -> None:
    with torch.device("meta"), torch.no_grad():
        network = build_network(name, inputs=inputs(crop_px, groups, classes)).eval()
        crop = torch.empty(1, 3, crop_px, crop_px)
        hazard = torch.empty(1, sum(groups)) if groups else None
        with FlopCounterMode(display=False) as counter:
            network(crop, hazard)
    assert f"{parameters(network) / 1e6:.2f}" == millions
    digits = len(gmac.partition(".")[2])
    assert f"{counter.get_total_flops() / 2e9:.{digits}f}" == gmac


@pytest.mark.parametrize(("crop_px", "rows"), [(384, (2210, 530)), (224, (730, 170))])
def test_weights_bear_the_official_names_and_shapes(crop_px: int, rows: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = build_network("qmf_2", inputs=inputs(crop_px, (4, 1)))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    table = "attn.relative_position_bias_table"
    expected = {
        "stage_0.0.weight": (96, 3, 3, 3),
        "stage_0.3.weight": (128, 96, 3, 3),
        "stage_0.6.weight": (128, 128, 3, 3),
        "stage_0.4.running_var": (128,),
        "bn1.weight": (128,),
        "stage_1.0._expand_conv.weight": (512, 128, 1, 1),
        "stage_2.0._depthwise_conv.weight": (512, 1, 3, 3),
        "stage_2.5._se_reduce.bias": (64,),
        "stage_2.5._se_expand.weight": (1024, 64, 1, 1),
        "stage_2.5._project_conv.weight": (256, 1024, 1, 1),
        "cls_token_1": (1, 1, 512),
        "cls_token_2": (1, 1, 1024),
        "stage_3.0.patch_embed.proj.weight": (512, 256, 3, 3),
        "stage_4.0.patch_embed.norm.bias": (1024,),
        "stage_3.13.attn.qkv.weight": (1536, 512),
        "stage_3.13.norm2.weight": (512,),
        f"stage_3.13.{table}": (rows[0], 8),
        f"stage_4.1.{table}": (rows[1], 8),
        "stage_4.1.mlp.fc1.weight": (4096, 1024),
        "cl_1_fc.0.fc1.weight": (512, 512),
        "cl_1_fc.0.fc2.weight": (1024, 512),
        "cl_1_fc.1.weight": (1024,),
        "aggregate.weight": (1, 2, 1),
        "norm_1.weight": (512,),
        "norm_2.weight": (1024,),
        "norm.weight": (1024,),
        "head.weight": (4, 1024),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert {n.partition(".")[0] for n in shapes if "meta" in n} == {
        f"meta_{group}_head_{stage}" for group in (1, 2) for stage in (1, 2)
    }
    assert not any(n.endswith("relative_position_index") for n in shapes)  # derived, not stored


def test_the_tiny_network_fits_two_cores() -> None:
    with torch.device("meta"), torch.no_grad():
        network = build_network("qmf_tiny", inputs=inputs(96, GROUPS)).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 96, 96), torch.empty(1, 34))
    assert parameters(network) < 1.5e6
    assert counter.get_total_flops() < 0.15e9


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_the_bias_index_is_that_of_the_offset_and_0_for_extra_tokens(side: int) -> None:
    extra = 3
    index = relative_index(side, extra)
    assert index.shape == (extra + side**2, extra + side**2)
    for a in range(side**2):
        for b in range(side**2):
            dy, dx = a // side - b // side, a % side - b % side
            expected = (dy + side - 1) * (2 * side - 1) + dx + side - 1
            assert index[extra + a, extra + b] == expected
    assert not index[:extra].any()
    assert not index[:, :extra].any()
    assert index.max() == table_rows(side) - 2  # the last row is never read: published so


def naive_attention(layer: RelativeAttention, tokens_TD: Tensor, side: int, extra: int) -> Tensor:
    """Relative attention of one sample, pair by pair."""
    count, width = tokens_TD.shape
    each = width // layer.heads
    qkv = tokens_TD @ layer.qkv.weight.T
    index = relative_index(side, extra)
    mixed = torch.zeros(count, width)
    for head in range(layer.heads):
        own = slice(head * each, (head + 1) * each)
        query, key, value = (qkv[:, k * width : (k + 1) * width][:, own] for k in range(3))
        for a in range(count):
            score = torch.zeros(count)
            for b in range(count):
                bias = layer.relative_position_bias_table[index[a, b], head]
                score[b] = query[a] @ key[b] / math.sqrt(each) + bias
            mixed[a, own] = torch.softmax(score, 0) @ value
    return mixed @ layer.proj.weight.T + layer.proj.bias


def test_relative_attention_is_the_double_loop() -> None:
    torch.manual_seed(0)
    layer = RelativeAttention(12, side=3, extra=2, heads=3)
    with torch.no_grad():
        layer.relative_position_bias_table.normal_(std=2)
        tokens_NTD = torch.randn(2, 11, 12)
        naive = torch.stack([naive_attention(layer, t, 3, 2) for t in tokens_NTD])
        torch.testing.assert_close(layer(tokens_NTD), naive)


def naive_mbconv(block: MBConv, x: Tensor) -> Tensor:
    """An inverted bottleneck in use, from the definitions of its parts."""

    def norm(bn: nn.BatchNorm2d, value: Tensor) -> Tensor:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        each = (bn.running_mean, bn.running_var, bn.weight, bn.bias)
        mean, var, weight, bias = (v[:, None, None] for v in each)
        return (value - mean) / (var + 0.01).sqrt() * weight + bias

    def swish(value: Tensor) -> Tensor:
        return value / (1 + (-value).exp())

    wide = swish(norm(block._bn0, torch.einsum("oi,niyx->noyx", kernel(block._expand_conv), x)))
    padded = nn.functional.pad(wide, (1, 1, 1, 1))
    (height, width), deep = x.shape[-2:], torch.zeros_like(wide)
    for dy in range(3):
        for dx in range(3):
            shifted = padded[:, :, dy : dy + height, dx : dx + width]
            deep += shifted * block._depthwise_conv.weight[:, 0, dy, dx, None, None]
    deep = swish(norm(block._bn1, deep))
    assert block._se_reduce.bias is not None
    assert block._se_expand.bias is not None
    squeezed = swish(deep.mean((2, 3)) @ kernel(block._se_reduce).T + block._se_reduce.bias)
    gate = torch.sigmoid(squeezed @ kernel(block._se_expand).T + block._se_expand.bias)
    gated = deep * gate[:, :, None, None]
    return x + norm(block._bn2, torch.einsum("oi,niyx->noyx", kernel(block._project_conv), gated))


def kernel(conv: nn.Conv2d) -> Tensor:
    return conv.weight[:, :, 0, 0]


def test_the_convolutional_block_is_its_definition() -> None:
    torch.manual_seed(0)
    block = MBConv(8, 8).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.01, 2)  # small ones tell eps apart
            nn.init.normal_(module.weight)
    x = torch.randn(2, 8, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(block(x), naive_mbconv(block, x))
        assert MBConv(8, 8, stride=2).eval()(x).shape == (2, 8, 3, 3)


@pytest.mark.parametrize("name", ["qmf_tiny", "qmf_tiny_resnorm", "qmf_tiny_deepmlp", "hazard_mlp"])
@pytest.mark.parametrize("learned", [False, True])
def test_a_sample_does_not_depend_on_its_neighbours(name: str, learned: bool) -> None:
    torch.manual_seed(0)
    network = build_network(name, inputs=inputs(32, GROUPS, learned=learned)).eval()
    given_ = examples(5, crop_px=32)[1 if name.startswith("hazard") else 0 :]
    given_[-1][2, :3] = 0
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        together = network(*given_)
        permuted = network(*(value[order] for value in given_))
        alone = torch.cat([network(*(value[i : i + 1] for value in given_)) for i in range(5)])
    assert together.shape == (5, 4)
    assert together.std(dim=0).min() > 1e-6  # samples do differ
    torch.testing.assert_close(permuted, together[order])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crop_px", [32, 96, 160])
def test_any_multiple_of_32_is_a_crop(crop_px: int) -> None:
    network = build_network("qif_tiny", inputs=inputs(crop_px)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, crop_px, crop_px)).shape == (1, 4)


def test_six_bands_are_both_dates_in_one_crop() -> None:
    network = build_network("qif_tiny", inputs=NetworkInputs(crop_px=64, bands=6)).eval()
    with torch.no_grad():
        assert network(torch.randn(2, 6, 64, 64)).shape == (2, 2)


def test_masked_metadata_is_all_zero_metadata_and_changes_the_verdict() -> None:
    torch.manual_seed(0)
    network = build_network("qmf_tiny", inputs=inputs(32, GROUPS)).eval()
    image_NBYX, hazard_NM = examples(3, crop_px=32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        masked = network(image_NBYX, mask_metadata(hazard_NM, 1.0, generator))
        torch.testing.assert_close(masked, network(image_NBYX, torch.zeros(3, 34)))
        assert not torch.allclose(masked, network(image_NBYX, hazard_NM))


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_learned_token_stands_for_a_group_without_values(kind: str) -> None:
    torch.manual_seed(0)
    encoder = metadata_encoder(kind, 4, 8, learned_missing=True).eval()
    plain = encoder.get_submodule("encoder")
    token = encoder.get_parameter("missing_token")
    values = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 0], [1, 2, 3, 4]])
    with torch.no_grad():
        got = encoder(values)
        torch.testing.assert_close(got[0], token)
        torch.testing.assert_close(got[1:], plain(values)[1:])
        assert not torch.allclose(got[0], plain(values)[0])


@pytest.mark.parametrize("kind", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(values=st.integers(1, 40), width=st.sampled_from([8, 16]))
def test_an_encoder_makes_one_normed_token(kind: str, values: int, width: int) -> None:
    encoder = metadata_encoder(kind, values, width).eval()
    with torch.no_grad():
        token = encoder(torch.randn(3, values))
    assert token.shape == (3, width)
    if kind != "resnorm":  # its last step adds to what it normed
        torch.testing.assert_close(token.mean(1), torch.zeros(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "groups"),
    [("qif_tiny", ()), ("qmf_tiny", GROUPS), ("hazard_resnorm", GROUPS)],
)
def test_every_parameter_learns(name: str, groups: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build_network(name, inputs=inputs(64, groups)).train()
    image_NBYX, hazard_NM = examples(4)
    given_ = {"qif": [image_NBYX], "qmf": [image_NBYX, hazard_NM], "haz": [hazard_NM]}[name[:3]]
    nn.functional.cross_entropy(network(*given_), torch.arange(4)).backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_a_network_learns_a_rule_that_only_the_hazard_tells() -> None:
    torch.manual_seed(0)
    network = build_network("qmf_tiny", inputs=inputs(32, (2, 1), classes=2)).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    image_NBYX, hazard_NM = torch.zeros(32, 3, 32, 32), torch.randn(32, 3)
    label_N = (hazard_NM[:, 1] + hazard_NM[:, 2] > 0).long()
    for _ in range(25):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(image_NBYX, hazard_NM), label_N).backward()
        optimiser.step()
    with torch.no_grad():
        right = network.eval()(image_NBYX, hazard_NM).argmax(1) == label_N
    assert right.float().mean() > 0.9


def test_skipped_blocks_are_whole_samples_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25)
    branch = torch.ones(4000, 2, 3)
    dropped = layer.train()(branch)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert layer.eval()(branch) is branch


def test_deeper_blocks_are_skipped_more_often() -> None:
    network = build_network("qif_0", dropout=0.1, inputs=inputs(32))
    shares = [m.share for m in network.modules() if isinstance(m, StochasticDepth)]
    assert shares == pytest.approx([0.1 * i / 11 for i in range(12)])


def test_reduced_precision_stays_close() -> None:
    torch.manual_seed(0)
    network = build_network("qmf_tiny", inputs=inputs(64, GROUPS)).eval()
    given_ = examples(2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        reduced = network(*given_)
    with torch.no_grad():
        torch.testing.assert_close(reduced.float(), network(*given_), atol=0.05, rtol=0.05)


def test_every_name_builds() -> None:
    """Networks of landslides, which take named bands, are built in tests of their own."""
    for name in sorted(set(network_names()) - set(LANDSLIDE_NETWORKS)):
        groups = GROUPS if name.startswith(("qmf", "hazard")) else ()
        with torch.device("meta"):
            assert parameters(build_network(name, inputs=inputs(64, groups))) > 0


@pytest.mark.parametrize(
    ("name", "given_", "says"),
    [
        (
            "qmf_tiny",
            NetworkInputs(crop_px=64),
            "qmf_tiny: network needs hazard values: expected groups",
        ),
        (
            "qif_tiny",
            inputs(64, (3,)),
            r"qif_tiny: network takes no hazard values: got groups \(3,\)",
        ),
        ("qif_tiny", inputs(100), "crop_px: .*: expected a multiple of 32, got 100"),
        ("qif_3", NetworkInputs(), "unknown network: .*got 'qif_3'"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, given_: NetworkInputs, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_network(name, inputs=given_)


def test_sizes_are_positive() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        NetworkInputs(classes=0)
    with pytest.raises(ConfigError, match="at least 1"):
        NetworkInputs(hazard_groups=(3, 0))


def test_inputs_of_another_shape_are_refused() -> None:
    network = build_network("qmf_tiny", inputs=inputs(64, GROUPS))
    assert isinstance(network, MetaFormer)
    image_NBYX, hazard_NM = examples(2)
    with pytest.raises(
        ShapeError, match=r"image does not fit .* expected \(N, 3, 64, 64\), got \(2, 3, 32, 32\)"
    ):
        network(image_NBYX[:, :, :32, :32], hazard_NM)
    with pytest.raises(ShapeError, match="no hazard values"):
        network(image_NBYX)
    with pytest.raises(ShapeError, match=r"expected \(N, 34\).*got \(2, 33\)"):
        network(image_NBYX, hazard_NM[:, 1:])
