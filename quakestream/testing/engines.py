"""What every engine must do: subclass, give `engine()` and `spec()`, and run pytest."""

import numpy as np

from quakestream.domain import BundleSpec
from quakestream.engines import Batch, Engine, owner_sums
from quakestream.errors import ShapeError


class EngineContract:
    """Tests over the Engine protocol."""

    def engine(self) -> Engine:
        raise NotImplementedError

    def spec(self) -> BundleSpec:
        raise NotImplementedError

    def batch(self, windows: int, seed: int = 0) -> Batch:
        """Windows of noise as the manifest wants them."""
        spec, rng = self.spec(), np.random.default_rng(seed)
        shape = (windows, len(spec.bands), spec.window_px, spec.window_px)
        images = {e: rng.integers(0, 256, shape).astype(np.uint8) for e in spec.epochs}
        statistics = {}
        if spec.normalisation == "per_scene":
            for epoch in spec.epochs:
                statistics[f"{epoch}_mean_NB"] = np.full(shape[:2], 120.0, np.float32)
                statistics[f"{epoch}_std_NB"] = np.full(shape[:2], 60.0, np.float32)
        return Batch(images=images, statistics=statistics)

    def owners(self, windows: int, owners: int, seed: int = 1) -> np.ndarray:
        core = self.spec().core_px
        rng = np.random.default_rng(seed)
        return rng.integers(-1, owners, (windows, core, core)).astype(np.int32)

    def test_logits_have_the_windows_shape(self) -> None:
        logits = self.engine().score(self.batch(2)).logits_NKYX
        side = self.spec().window_px
        assert logits is not None
        assert logits.dtype == np.float32
        assert logits.shape[0] == 2
        assert logits.shape[2:] == (side, side)
        assert np.isfinite(logits).all()

    def test_sums_are_those_of_the_logits(self) -> None:
        engine, batch, owner = self.engine(), self.batch(3), self.owners(3, 7)
        logits = engine.score(batch).logits_NKYX
        sums = engine.score(batch, owner).sum_RC
        assert logits is not None
        assert sums is not None
        assert np.array_equal(sums, owner_sums(logits, owner, 7, self.spec()))

    def test_a_window_scores_the_same_anywhere_in_a_batch(self) -> None:
        engine, batch = self.engine(), self.batch(3)
        together = engine.score(batch).logits_NKYX
        assert together is not None
        for n in range(3):
            alone = Batch(
                images={k: v[n : n + 1] for k, v in batch.images.items()},
                statistics={k: v[n : n + 1] for k, v in batch.statistics.items()},
            )
            logits = engine.score(alone).logits_NKYX
            assert logits is not None
            assert np.array_equal(logits[0], together[n])

    def test_probabilities_of_a_pixel_sum_to_one(self) -> None:
        owner = self.owners(1, 1)
        sums = self.engine().score(self.batch(1), owner).sum_RC
        assert sums is not None
        pixels = int((owner == 0).sum())
        assert abs(int(sums.sum()) - 65535 * pixels) <= pixels * len(self.spec().classes)

    def test_owners_that_own_nothing_get_zero(self) -> None:
        owner = np.full((1, self.spec().core_px, self.spec().core_px), -1, np.int32)
        owner[0, 0, 0] = 4
        sums = self.engine().score(self.batch(1), owner).sum_RC
        assert sums is not None
        assert (sums[:4] == 0).all()
        assert sums[4].sum() > 0

    def test_a_batch_of_another_shape_is_refused(self) -> None:
        batch = self.batch(1)
        wrong = Batch(images={k: v[:, :, 1:] for k, v in batch.images.items()})
        try:
            self.engine().score(wrong)
        except ShapeError:
            return
        raise AssertionError("a batch of the wrong shape was scored")
