"""Evidence of hazard values: the probabilities that a bundle of task `hazard` gives each footprint.

Evidence is added when sums become verdicts, after the commits. A run with another hazard bundle or
a later ShakeMap therefore scores no pixel again (laws 4 and 10).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.bundles import Asked, Bundle, load_bundle
from quakestream.config import RunFile
from quakestream.domain import BundleSpec, Issue
from quakestream.engines import Batch, Engine, open_engine
from quakestream.engines.base import probabilities
from quakestream.errors import ConfigError, EngineError, ShapeError
from quakestream.fusion import HAZARD_FLOOR, Evidence, ScaleMap, combine, prior_of
from quakestream.hazard import inputs_not_given, model_inputs

HAZARD_RUNTIME = "onnxruntime"
"""Runtime of hazard bundles. Few numbers need no GPU, and no other runtime runs trees."""
ROWS = 1024
"""Footprints that are scored at once. Exported networks take no more."""
SUM_TOLERANCE = 1e-3
"""Largest deviation from 1 of the sum of probabilities."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardModel:
    """The bundle of `models.hazard`, checked against the run."""

    bundle: Bundle
    scale: ScaleMap
    """Maps its classes to those of the damage bundle."""
    not_given: tuple[str, ...]
    """Hazard values that the bundle takes and the run does not give."""
    fuses: bool
    """False if the damage bundle itself takes hazard values, so that they count once."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the bundle for `run.json`."""
        name = self.bundle.spec.name
        notes = []
        if len(self.not_given) == len(self.bundle.spec.hazard):
            notes.append(f"models.hazard {name}: the run gives none of its hazard values")
        elif self.not_given:
            notes.append(f"models.hazard {name}: the run gives no {', '.join(self.not_given)}")
        if not self.fuses:
            notes.append(
                f"models.hazard {name}: the damage bundle takes hazard values itself, so "
                "p_hazard_* are given and not added to its verdicts"
            )
        return tuple(notes)


def hazard_model(run: RunFile, damage: BundleSpec | None) -> HazardModel | None:
    """Loads and checks `models.hazard`; None where the run names none.

    Args:
        damage: manifest of the damage bundle, to whose scale its classes are mapped.

    Raises:
        RequestError: if the bundle has another task, its graph does not load, it takes a value in
            an unknown unit, or its classes cannot be mapped to the damage scale.
        MissingExtraError: if its runtime is not installed.
    """
    if run.models.hazard is None:
        return None
    if damage is None:
        raise ConfigError(
            "models.hazard needs a damage bundle, to whose verdicts it adds",
            "models.damage",
            remedy="name one, or leave models.hazard out",
        )
    asked = Asked(where=run.where_of("models", "hazard"), tasks=frozenset({"hazard"}))
    bundle = load_bundle(run.models.hazard, run.storage_options, asked)
    spec = bundle.spec
    if spec.task != "hazard":
        raise ConfigError(
            f"bundle {spec.name} has the wrong task",
            "models.hazard",
            expected="hazard",
            got=spec.task,
            remedy="name a bundle that takes hazard values alone, or leave models.hazard out",
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
    """Probabilities of N footprints from hazard values alone, on the damage bundle's scale."""

    p_NC: NDArray[np.float32]
    """Probabilities under the hazard bundle's own class shares; NaN where there are none."""
    prior_C: NDArray[np.float64]
    """The hazard bundle's class shares."""
    fuses: bool
    """True if verdicts take this evidence."""
    engine: str
    missing: dict[str, int]
    """Footprints without a value, by the bundle's inputs."""
    issues: tuple[Issue, ...]

    @property
    def there_N(self) -> NDArray[np.bool_]:
        """True where the bundle gave probabilities."""
        return np.asarray(np.isfinite(self.p_NC).all(axis=1))

    def revised(
        self, image_NC: NDArray[np.float64], image_prior_C: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The image's probabilities with this evidence added, unchanged where there is none.

        The result keeps the image bundle's class shares, since its thresholds assume them.
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
    """Runs the bundle over the rows of a hazard table.

    Rows without any of its values get no probabilities, and neither do rows that it fails on.

    Args:
        values: one column per hazard value and one row per footprint; NaN where a value is missing.
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
    """Probabilities, NaN where there are none. Adds a cause for each row without probabilities."""
    nothing_NH = np.full((len(inputs_NM), len(spec.classes)), np.nan, np.float32)
    try:
        logits_NK = engine.score(Batch(hazard_NM=inputs_NM))
        p_NH = probabilities(logits_NK.T, spec).T
    except (EngineError, ShapeError) as error:
        causes += [str(error)] * len(inputs_NM)
        return nothing_NH
    total_N1 = p_NH.sum(axis=1, keepdims=True)
    bad_N1 = ~(np.abs(total_N1 - 1.0) <= SUM_TOLERANCE) | (p_NH < 0).any(axis=1, keepdims=True)
    causes += ["outputs are not probabilities (NaN, below 0, or a sum other than 1)"] * int(
        bad_N1.sum()
    )
    return np.where(bad_N1, nothing_NH, p_NH / np.where(bad_N1, 1.0, total_N1))


def _issues(bundle: Bundle, causes: list[str]) -> tuple[Issue, ...]:
    if not causes:
        return ()
    cause = (
        f"hazard bundle {bundle.spec.name} failed on {_footprints(len(causes))}, so verdicts use "
        f"the image alone there: {causes[0]}"
    )
    return (Issue(subject=bundle.uri, kind="hazard", cause=cause),)


def _footprints(count: int) -> str:
    return "1 footprint" if count == 1 else f"{count:,} footprints"
