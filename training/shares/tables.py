"""`python -m training.shares.tables MODEL -o DIR`: scores of labelled buildings, a table per town.

Towns are cities of the Türkiye pairs and synthetic towns of seeds that no model was trained on,
with stated shares of destroyed buildings. Buildings of real cities are judged inside their
axis-aligned bounds, because destroyed ones are polygons and the others boxes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import geopandas as gpd
import numpy as np
import pandas as pd
from shapely import STRtree

from quakestream.bundles import load_bundle
from quakestream.engines.choice import choose
from quakestream.errors import QuakestreamError, RequestError
from quakestream.tiling.lattice import Lattice
from training.checkpoints import load_checkpoint
from training.config import PairsConfig
from training.context import CONTEXT
from training.data.pairs import Building, LabelledPair, outlined_by_bounds
from training.data.synthetic import synthetic_pair
from training.data.turkiye import default_data_dir, turkiye_pairs
from training.lessons.pairs import halo_of
from training.pair_report import differences
from training.quantise_gate import engine_logits
from training.scoring import BuildingLogits, score_buildings

SHARES = (0.0, 0.002, 0.02, 0.1, 0.3, 0.6)
FITTED_TOWNS = tuple(zip(range(501, 509), (0.0, 0.0, 0.002, 0.02, 0.1, 0.1, 0.3, 0.6), strict=True))
"""Seed and expected share of synthetic towns that calibrations are fitted on."""
JUDGED_TOWNS = tuple(zip(range(601, 613), (*SHARES, *SHARES), strict=True))
"""Seed and expected share of synthetic towns that estimates are judged on."""
SIDE_M = 700.0
"""Side of a synthetic town."""

Scorer = Callable[[LabelledPair], list[BuildingLogits]]


def town_name(seed: int, share: float) -> str:
    """Name of a synthetic town."""
    return f"synthetic-{seed}-{share:g}"


def real_pairs() -> Iterator[LabelledPair]:
    """The Türkiye pairs by bounds, with outlines that were verified by eye where there are any."""
    path = default_data_dir() / "turkiye-verified-footprints" / "verified_footprints.geojson"
    verified = gpd.read_file(path)
    for pair in turkiye_pairs(default_data_dir()):
        yield outlined_by_bounds(with_verified(pair, verified))


def with_verified(pair: LabelledPair, verified: gpd.GeoDataFrame) -> LabelledPair:
    """The pair with verified outlines in place of the buildings that they touch."""
    own = verified.to_crs(f"EPSG:{pair.grid.epsg}")
    own = own[own.geometry.within(pair.outline)]
    outlines = [geometry.buffer(0) for geometry in own.geometry]
    tree = STRtree(outlines)
    kept = [b for b in pair.buildings if not len(tree.query(b.geometry, predicate="intersects"))]
    added = [
        Building(id=f"verified-{id_}", geometry=geometry, destroyed=bool(destroyed))
        for id_, geometry, destroyed in zip(own["osm_id"], outlines, own["destroyed"], strict=True)
    ]
    return replace(pair, buildings=(*kept, *added))


def synthetic_towns(towns: Sequence[tuple[int, float]]) -> Iterator[LabelledPair]:
    """Synthetic towns, each made when it is asked for."""
    for seed, share in towns:
        with TemporaryDirectory() as folder:
            pair = synthetic_pair(seed, Path(folder), destroyed=share, side_m=SIDE_M)
        yield replace(pair, name=town_name(seed, share), region=town_name(seed, share))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TownScorer:
    """A model that scores towns."""

    temperature: float
    score: Scorer
    regions: tuple[str, ...] | None
    """Real regions that it was not trained on; None for a model of synthetic towns alone."""

    @classmethod
    def of(cls, path: str, temperature: float) -> Self:
        """A bundle in the runtime that a map would choose here, or a checkpoint in torch.

        Args:
            path: folder of a bundle, or a checkpoint `.pt`.
            temperature: of a checkpoint; a bundle has its own.
        """
        if path.endswith(".pt"):
            checkpoint = load_checkpoint(Path(path))
            network, config = checkpoint.network(), checkpoint.config_as(PairsConfig)
            halo_px = halo_of(config, network)
            return cls(
                temperature=temperature,
                score=lambda pair: score_buildings(
                    network, pair, pair.buildings, _lattice(pair, halo_px)
                ),
                regions=config.split.held_regions,
            )
        bundle = load_bundle(path)
        engine = choose(bundle).engine
        training = bundle.spec.training
        alone = training["config"]["source"].startswith("synthetic") and CONTEXT not in training
        return cls(
            temperature=bundle.spec.temperature,
            score=lambda pair: engine_logits(engine, bundle.spec, pair),
            regions=None if alone else tuple(training.get("left_out", ())),
        )

    def may_judge(self, pair: LabelledPair) -> bool:
        """True where the pair was not used for training."""
        synthetic = pair.region.startswith("synthetic")
        return synthetic or self.regions is None or pair.region in self.regions


def table_of(scorer: TownScorer, pair: LabelledPair) -> pd.DataFrame:
    """A row per labelled building of a pair."""
    scored = scorer.score(pair)
    centres = [s.building.geometry.centroid for s in scored]
    return pd.DataFrame(
        {
            "town": pair.region,
            "pair": pair.name,
            "building_id": [s.building.id for s in scored],
            "destroyed": [s.building.destroyed for s in scored],
            "score": [s.probability(temperature=scorer.temperature) for s in scored],
            "confident": [_confident(s) for s in scored],
            "area_m2": [s.building.geometry.area for s in scored],
            "pre_post_difference": differences(scored, [pair]),
            "x_m": [c.x for c in centres],
            "y_m": [c.y for c in centres],
        }
    )


def _confident(scored: BuildingLogits) -> float:
    """Share of pixels with a logit above 1."""
    return float(np.mean(scored.logit_P > 1.0))


def _lattice(pair: LabelledPair, halo_px: int) -> Lattice:
    return Lattice(grid=pair.grid, window_px=512, halo_px=halo_px, cell_windows=1)


def write_tables(scorers: dict[str, TownScorer], towns: str, out: Path) -> None:
    """Writes `MODEL/PAIR.parquet` for every pair that a model was not trained on.

    Raises:
        RequestError: if there are no towns of this name.
    """
    synthetic = {"fitted": FITTED_TOWNS, "judged": JUDGED_TOWNS}
    if towns != "real" and towns not in synthetic:
        raise RequestError("unknown towns", towns, expected=f"real, {', '.join(synthetic)}")
    for pair in real_pairs() if towns == "real" else synthetic_towns(synthetic[towns]):
        for name, scorer in scorers.items():
            path = out / name / f"{pair.name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if scorer.may_judge(pair):
                table_of(scorer, pair).to_parquet(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Scores towns. Returns 0 when done, 2 if the request is wrong, 3 if it failed."""
    parser = argparse.ArgumentParser(prog="python -m training.shares.tables", description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=BUNDLE_OR_CKPT")
    parser.add_argument("--towns", default="real", help="real, fitted or judged")
    parser.add_argument("--temperature", type=float, default=1.0, help="of checkpoints")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        given = dict(model.partition("=")[::2] for model in options.models)
        scorers = {n: TownScorer.of(path, options.temperature) for n, path in given.items()}
        write_tables(scorers, options.towns, options.out)
    except QuakestreamError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
