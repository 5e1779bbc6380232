"""The losses of Smart Transfer against hand computations and their laws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from training.losses import (
    Triplets,
    distance_triplet_loss,
    draw_triplets,
    patch_labels,
    prototype_loss,
)
from training.losses.transfer import DAMAGED, GROUND, INTACT, UNSURE
from training.networks import NetworkInputs, TransferDecoder, build_network
from training.prototypes import prototypes


def test_the_prototype_loss_is_that_of_labels_where_prototypes_agree() -> None:
    logits = torch.tensor([[[2.0, -1.0], [0.5, 3.0]]])
    damaged = torch.tensor([[[True, False], [True, False]]])
    looks = torch.tensor([[[True, True], [True, False]]])
    known = torch.tensor([[[True, True], [False, True]]])
    by_hand = (math.log1p(math.exp(-2)) + math.log1p(math.exp(3))) / 2
    loss = prototype_loss(logits, damaged, looks, known)
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)
    labels = nn.functional.binary_cross_entropy_with_logits(
        logits[known & (looks == damaged)], damaged[known & (looks == damaged)].float()
    )
    torch.testing.assert_close(loss, labels)
    assert prototype_loss(logits, damaged, ~damaged, known).item() == 0


def test_patches_are_labelled_by_their_shares() -> None:
    damaged, building = torch.zeros(1, 40, 40).bool(), torch.zeros(1, 40, 40).bool()
    building[0, :10, :10] = True  # intact
    building[0, :10, 10:20], damaged[0, :3, 10:20] = True, True  # 30 % damaged
    building[0, :10, 20:30], damaged[0, 0, 20:25] = True, True  # 5 % damaged
    building[0, 10, 0] = True  # one pixel of a hundred
    label = patch_labels(damaged, building)[0].tolist()
    assert label[:5] == [INTACT, DAMAGED, UNSURE, GROUND, GROUND]
    assert set(label[5:]) == {GROUND}


def test_a_triplet_by_hand() -> None:
    """Anchor in the corner, positive and negative side by side at the other end of its row."""
    feature = torch.zeros(1, 2, 8, 8)
    feature[0, 0], feature[0, 1, :2, 6:] = 1.0, 1.0  # the last patch of row 0 points between
    triplets = _triplets([(0, 0, 2, 3)])
    far = (1 - math.sqrt(0.5)) ** 2 + 0.5
    penalty = (2 / 4 + 3 / 4 - 1 / 4) / math.sqrt(2)
    loss = distance_triplet_loss(feature, triplets)
    assert loss.item() == pytest.approx(0 - far + penalty + 0.2, rel=1e-5)
    straight = distance_triplet_loss(feature, _triplets([(0, 2, 1, 3)]))  # no detour
    assert straight.item() == pytest.approx(max(0.0, 0.2 - far), abs=1e-6)
    both = distance_triplet_loss(
        feature.repeat(3, 1, 1, 1), _triplets([(0, 0, 2, 3), (2, 2, 1, 3), (2, 2, 1, 3)])
    )
    assert both.item() == pytest.approx((loss.item() + straight.item()) / 2, rel=1e-5)


@given(seed=st.integers(0, 2**31))
def test_triplets_are_of_their_labels_and_the_same_for_a_seed(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    label_NG = torch.randint(-1, 3, (3, 16), generator=g)
    drawn = draw_triplets(label_NG, torch.Generator().manual_seed(seed), anchors=5)
    again = draw_triplets(label_NG, torch.Generator().manual_seed(seed), anchors=5)
    assert torch.equal(drawn.negative_T, again.negative_T)
    anchor, positive, negative = (
        label_NG[drawn.tile_T, p] for p in (drawn.anchor_T, drawn.positive_T, drawn.negative_T)
    )
    assert torch.isin(anchor, torch.tensor([INTACT, DAMAGED])).all()
    assert (positive == anchor).all()
    assert (negative != anchor).all()
    assert (negative != UNSURE).all()
    assert (drawn.positive_T != drawn.anchor_T).all()
    assert torch.bincount(drawn.tile_T, minlength=3).max() <= 5
    feature = torch.randn(3, 4, 16, 16, generator=g)
    assert distance_triplet_loss(feature, drawn).item() >= 0


def test_without_a_triplet_there_is_no_loss_and_no_gradient() -> None:
    feature = torch.randn(1, 4, 16, 16, requires_grad=True)
    drawn = draw_triplets(torch.full((1, 16), GROUND), torch.Generator().manual_seed(0))
    loss = distance_triplet_loss(feature, drawn)
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert feature.grad is not None
    assert not feature.grad.any()


def test_prototypes_find_the_groups_that_are_there() -> None:
    g = torch.Generator().manual_seed(0)
    centre_KD = nn.functional.normalize(torch.randn(5, 8, generator=g), dim=1)
    point_PD = centre_KD.repeat(200, 1) + 0.03 * torch.randn(1000, 8, generator=g)
    found_KD = prototypes(point_PD, 5, seed=1)
    apart = torch.cdist(centre_KD, found_KD).min(dim=1).values
    assert apart.max() < 0.03
    torch.testing.assert_close(found_KD.norm(dim=1), torch.ones(5))
    assert torch.equal(found_KD, prototypes(point_PD, 5, seed=1))


def test_the_decoder_has_the_published_size_and_asks_the_nearest_prototype() -> None:
    with torch.device("meta"):
        network = build_network("transfer_256", inputs=NetworkInputs(bands=1024))
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == 4_131_073  # the specification counts 4.131 M
    small = build_network("transfer_16", inputs=NetworkInputs(bands=6)).eval()
    assert isinstance(small, TransferDecoder)
    map_NDYX = torch.randn(2, 6, 2, 2)
    small.prototype_KD[:] = -small.projected(map_NDYX)[0, :, 0, 0]
    small.prototype_KD[40] = small.projected(map_NDYX)[1, :, 0, 1]  # one of other pixels
    small.prototype_KD[3] = small.projected(map_NDYX)[0, :, 1, 0]  # one of damaged pixels
    with torch.no_grad():
        logits, feature, looks = small(map_NDYX)
    assert (logits.shape, feature.shape) == ((2, 1, 32, 32), (2, 16, 32, 32))
    assert looks[0, 16:, :16].all()
    assert not looks[1, :16, 16:].any()


def _triplets(rows: list[tuple[int, int, int, int]]) -> Triplets:
    columns: list[Tensor] = list(torch.tensor(rows).unbind(1))
    return Triplets(
        tile_T=columns[0], anchor_T=columns[1], positive_T=columns[2], negative_T=columns[3]
    )
