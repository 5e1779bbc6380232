"""Prototypes of pixels: mini-batch k-means (Sculley 2010, doi:10.1145/1772690.1772862)."""

import torch
from torch import Tensor, nn

from quakestream.errors import RequestError


def prototypes(point_PD: Tensor, count: int, seed: int, *, steps: int = 60) -> Tensor:
    """Centres of `count` groups of points of length 1, themselves of length 1.

    Raises:
        RequestError: if there are fewer points than groups.
    """
    if len(point_PD) < count:
        raise RequestError(
            "too few pixels to cluster", expected=f"{count} or more", got=str(len(point_PD))
        )
    draw = torch.Generator().manual_seed(seed)
    centre_KD = _spread(point_PD, count, draw)
    seen_K = torch.ones(count)
    for _ in range(steps):
        batch = point_PD[torch.randint(len(point_PD), (1024,), generator=draw)]
        nearest = torch.cdist(batch, centre_KD).argmin(dim=1)
        for k in torch.bincount(nearest, minlength=count).nonzero()[:, 0].tolist():
            own = batch[nearest == k]
            # The mean of all points that this centre ever won.
            seen_K[k] += len(own)
            centre_KD[k] += (own.mean(0) - centre_KD[k]) * (len(own) / seen_K[k])
    return nn.functional.normalize(centre_KD, dim=1)


def _spread(point_PD: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """First centres, each drawn by its squared distance to those before it (k-means++)."""
    chosen = [point_PD[int(torch.randint(len(point_PD), (1,), generator=draw))]]
    apart_P = (point_PD - chosen[0]).square().sum(1)
    while len(chosen) < count:
        odds_P = apart_P.clamp(min=1e-12)
        chosen.append(point_PD[int(torch.multinomial(odds_P, 1, generator=draw))])
        apart_P = torch.minimum(apart_P, (point_PD - chosen[-1]).square().sum(1))
    return torch.stack(chosen)
