"""What every engine must do: subclass, give `engine()` and `spec()`, and run pytest."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine, crop_shares, owner_sums
from quakestream.errors import ShapeError
from quakestream.reduce import PROBABILITY_ONE


class _Contract:
    """What windows and crops share."""

    def engine(self) -> Engine:
        raise NotImplementedError

    def spec(self) -> BundleSpec:
        raise NotImplementedError

    def batch(self, windows: int, seed: int = 0) -> Batch:
        """Noise as the manifest wants it; the last row lacks its first hazard value."""
        spec, rng = self.spec(), np.random.default_rng(seed)
        shape = (windows, len(spec.bands), spec.window_px, spec.window_px)
        images = {e: rng.integers(0, 256, shape).astype(np.uint8) for e in spec.epochs}
        statistics = {}
        if spec.normalisation == "per_scene":
            for epoch in spec.epochs:
                statistics[f"{epoch}_mean_NB"] = np.full(shape[:2], 120.0, np.float32)
                statistics[f"{epoch}_std_NB"] = np.full(shape[:2], 60.0, np.float32)
        hazard_NM = None
        if spec.hazard:
            mean, std = (np.array([getattr(h, n) for h in spec.hazard]) for n in ("mean", "std"))
            hazard_NM = rng.normal(mean, std, (windows, len(mean))).astype(np.float32)
            hazard_NM[-1:, 0] = np.nan
        return Batch(images=images, statistics=statistics, hazard_NM=hazard_NM)

    def logits(self, batch: Batch) -> NDArray[np.float32]:
        return self.engine().score(batch)

    def test_a_window_scores_the_same_anywhere_in_a_batch(self) -> None:
        batch = self.batch(5)
        together = self.logits(batch)
        for start, stop in ((0, 1), (2, 3), (4, 5), (1, 5), (0, 2)):
            assert np.array_equal(self.logits(batch.part(start, stop)), together[start:stop])

    def test_more_items_than_one_run_takes_score_as_fewer_do(self) -> None:
        """The last run is padded, and what it is padded with must not show."""
        run = self.engine().batch or 1
        batch = self.batch(2 * run + 1)
        together = self.logits(batch)
        for start, stop in ((0, run), (run, run + 1), (2 * run, 2 * run + 1)):
            assert np.array_equal(self.logits(batch.part(start, stop)), together[start:stop])

    def test_a_batch_of_another_shape_is_refused(self) -> None:
        wrong = {k: v[:, :, 1:] for k, v in self.batch(1).images.items()}
        with raises(ShapeError):
            self.engine().score(replace(self.batch(1), images=wrong))


class EngineContract(_Contract):
    """Tests over the Engine protocol, for bundles that score the pixels of windows."""

    def owners(self, windows: int, owners: int, seed: int = 1) -> np.ndarray:
        core = self.spec().core_px
        rng = np.random.default_rng(seed)
        return rng.integers(-1, owners, (windows, core, core)).astype(np.int32)

    def test_logits_have_the_windows_shape(self) -> None:
        logits = self.engine().score(self.batch(2))
        side = self.spec().window_px
        assert logits.dtype == np.float32
        assert logits.shape[0] == 2
        assert logits.shape[2:] == (side, side)
        assert np.isfinite(logits).all()

    def test_sums_are_those_of_the_logits(self) -> None:
        engine, batch, owner = self.engine(), self.batch(3), self.owners(3, 7)
        logits = engine.score(batch)
        sums = engine.sums(batch, owner)
        assert np.array_equal(sums, owner_sums(logits, owner, 7, self.spec()))

    def test_probabilities_of_a_pixel_sum_to_one(self) -> None:
        owner = self.owners(1, 1)
        sums = self.engine().sums(self.batch(1), owner)
        pixels = int((owner == 0).sum())
        assert abs(int(sums.sum()) - 65535 * pixels) <= pixels * len(self.spec().classes)

    def test_owners_that_own_nothing_get_zero(self) -> None:
        owner = np.full((1, self.spec().core_px, self.spec().core_px), -1, np.int32)
        owner[0, 0, 0] = 4
        sums = self.engine().sums(self.batch(1), owner)
        assert (sums[:4] == 0).all()
        assert sums[4].sum() > 0


class CropEngineContract(_Contract):
    """Tests over the Engine protocol, for bundles of task `building`."""

    def test_logits_have_a_row_for_each_crop(self) -> None:
        logits = self.engine().score(self.batch(3))
        assert logits.dtype == np.float32
        assert logits.shape in {(3, 1), (3, len(self.spec().classes))}
        assert np.isfinite(logits).all()

    def test_no_crops_get_no_rows(self) -> None:
        assert len(self.logits(self.batch(0))) == 0

    def test_many_crops_score_as_each_does_alone(self) -> None:
        batch = self.batch(37)
        alone = [self.logits(batch.part(n, n + 1)) for n in range(len(batch))]
        assert np.array_equal(self.logits(batch), np.concatenate(alone))

    def test_shares_of_a_crop_sum_to_one(self) -> None:
        shares = crop_shares(self.logits(self.batch(4)), self.spec())
        assert np.abs(shares.sum(axis=1) - PROBABILITY_ONE).max() <= len(self.spec().classes)

    def test_sums_of_crops_are_refused(self) -> None:
        side = self.spec().window_px
        with raises(ShapeError):
            self.engine().sums(self.batch(1), np.zeros((1, side, side), np.int32))

    def test_hazard_values_of_another_number_are_refused(self) -> None:
        wrong = np.zeros((1, len(self.spec().hazard) + 1), np.float32)
        with raises(ShapeError):
            self.engine().score(replace(self.batch(1), hazard_NM=wrong))

    def test_crops_without_any_hazard_value_are_scored(self) -> None:
        batch = self.batch(2)
        if batch.hazard_NM is not None:
            batch = replace(batch, hazard_NM=np.full_like(batch.hazard_NM, np.nan))
        assert np.isfinite(self.logits(batch)).all()


@contextmanager
def raises(error: type[Exception]) -> Iterator[None]:
    """Fails unless the error is raised; shipped code does not import pytest."""
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")
