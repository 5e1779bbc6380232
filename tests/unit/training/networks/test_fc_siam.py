"""What the change networks add for the contrastive pretext; the rest is in test_training."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from quakestream.errors import ShapeError
from training.losses import siamese_contrast
from training.networks import Embedding, FcSiam, build_network
from training.networks.fc_siam import stack_dates

GMAC_AT_1024 = {
    "fc_ef_large": "62.8",
    "fc_siam_conc_large": "99.0",
    "fc_siam_diff_large": "87.0",
    "fc_ef_medium": "48.0",
    "fc_siam_conc_medium": "75.8",
    "fc_siam_diff_medium": "66.2",
    "fc_ef_small": "9.3",
    "fc_siam_conc_small": "14.2",
    "fc_siam_diff_small": "11.7",
}


def fc_siam(name: str) -> FcSiam:
    torch.manual_seed(0)
    network = build_network(name)
    assert isinstance(network, FcSiam)
    return network


def images(network: FcSiam, count: int = 3) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, count, network.encoder_bands, 64, 64)
    return first, second


@pytest.mark.parametrize(("name", "gmac"), GMAC_AT_1024.items())
def test_the_cost_of_a_pair_is_the_published_one(name: str, gmac: str) -> None:
    with torch.device("meta"), torch.no_grad():
        network = build_network(name).eval()
        image = torch.empty(1, 3, 1024, 1024)
        with FlopCounterMode(display=False) as counter:
            network(image, image)
    assert f"{counter.get_total_flops() / 2e9:.1f}" == gmac


@pytest.mark.parametrize(
    ("name", "bands", "width"),
    [("fc_siam_diff_large", 3, 256), ("fc_ef_large", 6, 256), ("fc_siam_conc_small", 3, 64)],
)
def test_points_lie_on_the_unit_sphere(name: str, bands: int, width: int) -> None:
    network = fc_siam(name)
    embedding = Embedding(network).eval()
    assert (network.encoder_bands, embedding.embedding.weight.shape) == (bands, (128, width))
    first, second = images(network)
    with torch.no_grad():
        a, b = embedding(first, second)
        assert a.shape == b.shape == (3, 128)
        torch.testing.assert_close(a.norm(dim=1), torch.ones(3))
        expected = embedding.embedding(network.encode(second).mean((2, 3)))
        torch.testing.assert_close(b, expected / expected.norm(dim=1, keepdim=True))
        same, again = embedding(first, first)
        torch.testing.assert_close(same, again)


def test_the_pretext_trains_the_encoder_that_the_network_uses() -> None:
    network = fc_siam("fc_siam_diff_small")
    embedding = Embedding(network).train()
    pre, post = images(network, 4)
    before = network.eval()(pre, post).detach()
    embedding.train()
    optimiser = torch.optim.SGD(embedding.parameters(), lr=0.1)
    siamese_contrast(*embedding(pre, post), torch.tensor([1, 0, 1, 0])).backward()
    untouched = [p.grad for p in (*network.decoder.parameters(), *network.up.parameters())]
    assert all(grad is None for grad in untouched)
    optimiser.step()
    assert not torch.allclose(network.eval()(pre, post), before)


def test_early_fusion_embeds_pairs() -> None:
    network = fc_siam("fc_ef_small")
    pre, post = torch.randn(2, 3, 3, 64, 64)
    stacked = stack_dates(pre, post)
    torch.testing.assert_close(stacked[:, :3], pre)
    torch.testing.assert_close(stacked[:, 3:], post)
    with torch.no_grad():
        point, _ = Embedding(network).eval()(stacked, stacked)
    assert point.shape == (3, 128)


def test_a_frozen_encoder_keeps_weights_and_statistics() -> None:
    network = fc_siam("fc_siam_diff_small")
    network.freeze_encoder()
    network.train()
    kept = {k: v.clone() for k, v in network.encoder.state_dict().items()}
    pre, post = images(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.1)
    network(pre, post).square().mean().backward()
    optimiser.step()
    for name, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)
    norms = [m for m in network.decoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.training for norm in norms)
    assert not any(m.training for m in network.encoder.modules())


def test_an_image_that_does_not_fit_the_pooling_is_refused() -> None:
    with pytest.raises(ShapeError, match="multiples of 8, got 60×64"):
        fc_siam("fc_siam_diff_small").encode(torch.zeros(1, 3, 60, 64))


@pytest.mark.parametrize(("width", "halo_px"), [("small", 16), ("medium", 96), ("large", 192)])
def test_a_margin_is_as_wide_as_the_network_sees(width: str, halo_px: int) -> None:
    for mode in ("ef", "siam_conc", "siam_diff"):
        assert fc_siam(f"fc_{mode}_{width}").halo_px == halo_px


@pytest.mark.parametrize(("name", "less"), [("fc_ef_small", 8), ("fc_siam_diff_medium", 16)])
def test_a_window_with_its_margin_is_scored_as_the_whole_scene(name: str, less: int) -> None:
    """Not so with the margin of a smaller network."""
    network = fc_siam(name).eval().double()  # random weights see little of what is far
    margin, core = network.halo_px, 2 * network.stride
    side = 2 * (margin + network.stride) + core
    pre, post = torch.randn(2, 1, 3, side, side, dtype=torch.float64)
    start = (side - core) // 2

    def scored(halo_px: int) -> Tensor:
        window = slice(start - halo_px, start + core + halo_px)
        logit_YX: Tensor = network(pre[..., window, window], post[..., window, window])[0, 0]
        return logit_YX[halo_px : halo_px + core, halo_px : halo_px + core]

    with torch.inference_mode():
        whole = network(pre, post)[0, 0, start : start + core, start : start + core]
        torch.testing.assert_close(scored(margin), whole, rtol=0, atol=1e-12)
        assert (scored(less) - whole).abs().max() > 1e-9
