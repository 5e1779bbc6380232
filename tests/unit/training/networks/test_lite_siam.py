"""FC-Siam-Diff on EfficientNet-Lite0: what stays ImageNet's, what a window sees."""

from dataclasses import replace

import pytest
import torch

from quakestream.bundles import load_bundle
from quakestream.errors import ShapeError
from training.cards import card_of
from training.checkpoints import start_from
from training.config import PairsConfig
from training.manifests import PROVENANCE
from training.networks import LiteSiam, build_network
from training.recipes import recipe

NAME = "fc_siam_diff_lite0"


@pytest.fixture(scope="module")
def network() -> LiteSiam:
    torch.manual_seed(0)
    network = build_network(NAME)
    assert isinstance(network, LiteSiam)
    config = PairsConfig(recipe="x", network=NAME, init="official:")
    assert start_from(network, config) == "198 official weights"
    return network.eval()


def test_a_step_changes_neither_the_lower_stages_nor_the_statistics_of_imagenet(
    network: LiteSiam,
) -> None:
    trained = build_network(NAME)
    trained.load_state_dict(network.state_dict())
    trained.train()
    optimiser = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=1.0)
    pre, post = torch.randn(2, 2, 3, 32, 32)
    trained(pre, post).square().mean().backward()
    optimiser.step()
    before, after = network.state_dict(), trained.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    encoder = {name for name in moved if name.startswith("encoder.")}
    assert {int(name.split(".")[2]) for name in encoder} == {*range(3, 11)}
    assert not [name for name in encoder if "running" in name]
    assert any(name.startswith("merge.") and "running" in name for name in moved)


def test_both_dates_count_and_their_order_matters(network: LiteSiam) -> None:
    a, b = torch.randn(2, 1, 3, 64, 64)
    with torch.no_grad():
        there, back, same = network(a, b), network(b, a), network(b, b)
    assert there.shape == (1, 1, 64, 64)
    assert (there - back).abs().max() > 1e-3
    assert (there - same).abs().max() > 1e-3


def test_a_window_scores_its_core_nearly_as_the_whole_scene_does(network: LiteSiam) -> None:
    """Pixels reach farther than the margin in principle; it must not show."""
    pre, post = torch.nn.functional.interpolate(torch.randn(2, 3, 128, 128), 512).split(1)
    part = slice(128, 384)
    core = slice(network.halo_px, -network.halo_px)
    with torch.no_grad():
        whole = network(pre, post)
        window = network(pre[..., part, part], post[..., part, part])
    apart = (whole[..., part, part] - window)[..., core, core].abs().mean()
    assert apart < 0.02 * whole.std()


def test_a_window_off_the_stride_is_refused(network: LiteSiam) -> None:
    image = torch.zeros(1, 3, 48, 40)
    with pytest.raises(ShapeError, match="multiples of 16, got 48×40"):
        network(image, image)


def test_the_recipe_holds_towns_out_that_it_does_not_train_on() -> None:
    config = recipe("synthetic_lite0")
    assert isinstance(config, PairsConfig)
    assert (config.network, config.init, config.source) == (NAME, "official:", "synthetic_wide")
    assert config.split.held_regions == ("seed-401", "seed-402", "seed-403")


@pytest.mark.parametrize(
    ("source", "says"),
    [("synthetic_wide", "no real earthquake"), ("turkiye_wide", "usually CC BY-NC 4.0")],
)
def test_cards_say_what_the_network_has_seen(source: str, says: str) -> None:
    shipped = load_bundle("damage-turkiye-2023").spec
    config = shipped.training["config"] | {"network": NAME, "source": source}
    card = card_of(replace(shipped, training=shipped.training | {"config": config}))
    assert says in card
    assert "ImageNet" in card
    assert f"`{NAME}`" in card
    assert {"data", "licence"} <= PROVENANCE[source].keys()
