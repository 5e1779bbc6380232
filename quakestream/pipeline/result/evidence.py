"""Evidence of hazard values: what a bundle of task `hazard` says of every footprint.

Applied when sums become verdicts, long after the commits: a run that is done again with
another hazard bundle, or with a later ShakeMap, scores no pixel again (laws 4 and 10).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.bundles import Bundle, load_bundle
from quakestream.config import RunFile
from quakestream.domain import BundleSpec, Issue
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.base import probabilities
from quakestream.errors import ConfigError, EngineError, ShapeError
from quakestream.fusion import HAZARD_FLOOR, Evidence, ScaleMap, combine, prior_of
from quakestream.hazard import inputs_not_given, model_inputs

HAZARD_RUNTIME = "onnxruntime"
"""A few numbers per building need no accelerator, and trees run on no other runtime."""
ROWS = 1024
"""Footprints scored at once: a stated bound, and what exported networks take at most."""
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardModel:
    """The bundle of `models.hazard`, checked against the run."""

    bundle: Bundle
    scale: ScaleMap
    """From its classes to those of the damage bundle."""
    not_given: tuple[str, ...]
    """Values it takes that the run has no file for."""
    fuses: bool
    """False where the damage bundle took hazard values in itself: they count once."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever asked for the run should know of it."""
        name, takes = self.bundle.spec.name, len(self.bundle.spec.hazard)
        said = []
        if len(self.not_given) == takes:
            said.append(f"models.hazard {name}: the run gives none of the {takes} values it takes")
        elif self.not_given:
            missing = ", ".join(self.not_given)
            said.append(f"models.hazard {name} takes {missing}, which the run does not give")
        if not self.fuses:
            said.append(
                f"models.hazard {name}: the damage bundle takes hazard values itself, so "
                "p_hazard_* are given and not added to its verdicts"
            )
        return tuple(said)


def hazard_model(run: RunFile, damage: BundleSpec) -> HazardModel | None:
    """Loads and checks `models.hazard`; None where the run names none.

    Raises:
        RequestError: if it is no bundle of task hazard, its graph does not load, a value is
            wanted in an unknown unit, or its classes cannot be brought to the damage scale.
        MissingExtraError: if its runtime is not installed.
    """
    if run.models.hazard is None:
        return None
    bundle = load_bundle(run.models.hazard, run.storage_options)
    spec = bundle.spec
    if spec.task != "hazard":
        raise ConfigError(
            f"models.hazard: bundle {spec.name} is for {spec.task}, expected a bundle of task "
            "hazard; name one that takes hazard values alone, or leave models.hazard out"
        )
    open_engine(bundle, runtime=HAZARD_RUNTIME, threads=1)
    return HazardModel(
        bundle=bundle,
        scale=ScaleMap.between(spec.classes, damage.classes),
        not_given=inputs_not_given(spec, run.hazard),
        fuses=not damage.hazard,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardEvidence:
    """What hazard values alone say of N footprints, on the damage bundle's scale."""

    p_NC: NDArray[np.float32]
    """Probabilities under the hazard bundle's own class shares; NaN where it says nothing."""
    prior_C: NDArray[np.float64]
    """Those class shares."""
    fuses: bool
    engine: str
    missing: dict[str, int]
    """Footprints without a value, by the bundle's inputs."""
    issues: tuple[Issue, ...]

    @property
    def there_N(self) -> NDArray[np.bool_]:
        """True where the bundle said something."""
        return np.asarray(np.isfinite(self.p_NC).all(axis=1))

    def revised(
        self, image_NC: NDArray[np.float64], image_prior_C: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The image's probabilities with this evidence added; as they were where there is none.

        The image bundle's class shares stay those of the result: its thresholds assume them.
        """
        if not self.fuses:
            return image_NC
        there_N = self.there_N
        fused_NC = image_NC.copy()
        fused_NC[there_N] = combine(
            image_prior_C,
            [
                Evidence(p_NC=image_NC[there_N], prior_C=image_prior_C),
                Evidence(
                    p_NC=self.p_NC[there_N].astype(np.float64),
                    prior_C=self.prior_C,
                    floor=HAZARD_FLOOR,
                ),
            ],
        )
        return fused_NC


def hazard_evidence(model: HazardModel, values: pd.DataFrame) -> HazardEvidence:
    """Runs the bundle over the rows of a hazard table; a row without any of its values is left
    out, and so is one it fails on.

    Args:
        values: a column per hazard value, NaN where missing, a row per footprint.
    """
    spec = model.bundle.spec
    engine = open_engine(model.bundle, runtime=HAZARD_RUNTIME, threads=1)
    p_NH = np.full((len(values), len(spec.classes)), np.nan, np.float32)
    missing_M = np.zeros(len(spec.hazard), np.int64)
    causes: list[str] = []
    for start in range(0, len(values), ROWS):
        inputs_NM = model_inputs(values.iloc[start : start + ROWS], spec)
        absent_NM = np.isnan(inputs_NM)
        missing_M += absent_NM.sum(axis=0)
        known = np.flatnonzero(~absent_NM.all(axis=1))
        if len(known):
            p_NH[start + known] = _scored(engine, inputs_NM[known], spec, causes)
    names = [one.name for one in spec.hazard]
    return HazardEvidence(
        p_NC=model.scale(p_NH).astype(np.float32),
        prior_C=model.scale(prior_of(spec)),
        fuses=model.fuses,
        engine=engine.name,
        missing=dict(zip(names, missing_M.tolist(), strict=True)),
        issues=_issues(model.bundle, causes),
    )


def _scored(
    engine: Engine, inputs_NM: NDArray[np.float32], spec: BundleSpec, causes: list[str]
) -> NDArray[np.float32]:
    """Probabilities, NaN where there are none; a cause is added for every row without."""
    nothing_NH = np.full((len(inputs_NM), len(spec.classes)), np.nan, np.float32)
    try:
        logits_NK = engine.score(Batch(hazard_NM=inputs_NM))
        p_NH = probabilities(logits_NK.T, spec).T
    except (EngineError, ShapeError) as error:
        causes += [str(error)] * len(inputs_NM)
        return nothing_NH
    total_N1 = p_NH.sum(axis=1, keepdims=True)
    bad_N1 = ~(np.abs(total_N1 - 1.0) <= SUM_TOLERANCE) | (p_NH < 0).any(axis=1, keepdims=True)
    causes += ["its outputs are no probabilities (NaN, below 0, or not 1 in sum)"] * int(
        bad_N1.sum()
    )
    return np.where(bad_N1, nothing_NH, p_NH / np.where(bad_N1, 1.0, total_N1))


def _issues(bundle: Bundle, causes: list[str]) -> tuple[Issue, ...]:
    if not causes:
        return ()
    cause = (
        f"hazard bundle {bundle.spec.name} gave no answer for {len(causes)} footprints, whose "
        f"verdicts rest on the image alone: {causes[0]}"
    )
    return (Issue(subject=bundle.uri, kind="hazard", cause=cause),)
