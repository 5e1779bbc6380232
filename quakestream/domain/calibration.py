"""The calibration of a building's score, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from quakestream.errors import ShapeError

SCORE_LOGIT = "score_logit"
FEATURES = (
    SCORE_LOGIT,
    "log_area_m2",
    "shift_quality",
    "shift_m",
    "log_difference",
    "valid_fraction",
)
"""Values of a building that a calibration may use.

`score_logit` is the logit of the score. `log_area_m2` is the natural logarithm of the footprint's
area. `log_difference` is the natural logarithm of 1 + `pre_post_difference`. The others are the
columns of these names.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreShape:
    """How the log-ratios of a run's buildings are spread, and how that differs between runs.

    Log-ratios of intact buildings have one peak with a width on its right side, and those of
    destroyed buildings another peak. A town of another land, sensor or view angle has its peaks
    elsewhere. What is the same everywhere is that intact buildings are one peak.

    Raises:
        ShapeError: if a width or a standard deviation is not above 0, or `silent` is below 0.
    """

    intact_at: float = -4.5
    """Peak of intact buildings, mean of regions."""
    intact_at_sd: float = 1.5
    """Its standard deviation between regions."""
    intact_width: float = 2.5
    """Standard deviation of intact buildings above their peak, geometric mean of regions."""
    intact_width_log_sd: float = 0.4
    """Standard deviation of its logarithm between regions."""
    destroyed_at: float = 4.5
    """Peak of destroyed buildings, mean of regions."""
    destroyed_at_sd: float = 1.5
    """Its standard deviation between regions."""
    destroyed_width: float = 3.0
    """Standard deviation of destroyed buildings within a region."""
    silent: float = 0.0
    """How many destroyed buildings may score like intact ones; 0 for none.

    A log-ratio of z in the middle of intact scores says that destroyed buildings lie there exp(z)
    times as often as intact ones. Up to `silent` times that share of them is allowed for.
    """

    def __post_init__(self) -> None:
        spreads = (
            *(self.intact_at_sd, self.intact_width, self.intact_width_log_sd),
            *(self.destroyed_at_sd, self.destroyed_width),
        )
        apart = self.intact_at < self.destroyed_at
        if not (all(spread > 0 for spread in spreads) and apart and self.silent >= 0):
            raise ShapeError(
                "shape of scores",
                expected="spreads above 0, intact buildings below destroyed ones, silent from 0",
                got=str(self),
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Turns the score of a building into the probability that it is destroyed.

    The score is the mean probability of the most severe class over the building, as the model
    gives it. Where `share` of the buildings are destroyed,

        logit p = intercept + sum over features of weight · (value - centre)

    Raises:
        ShapeError: if the fields contradict each other, or p would not rise with the score.
    """

    share: float
    """Share of destroyed buildings that the probabilities assume, above 0 and below 1."""
    features: tuple[str, ...]
    """Names out of `FEATURES`; the first is `score_logit`."""
    weights: tuple[float, ...]
    """A weight per feature; that of the score is above 0."""
    intercept: float
    covariance: tuple[tuple[float, ...], ...]
    """Covariance of (intercept, *weights), from a bootstrap over blocks of ground."""
    region_sd: float
    """Standard deviation of the intercept between regions."""
    fitted_on: str
    """Regions, buildings and destroyed ones, in words."""
    centres: tuple[float, ...] = ()
    """Typical value of each feature, which a missing value counts as; empty for zeros."""
    shape: ScoreShape = ScoreShape()
    """Spread of log-ratios within a run, from which its share is estimated."""

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ShapeError(f"calibration: {problem}")

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict` after a passage through JSON.

        Raises:
            ShapeError: if the fields contradict each other.
            KeyError: if a field is missing.
            TypeError: if a value is of another type.
        """
        known = {field.name for field in fields(cls)}
        values = {name: _tuples(value) for name, value in raw.items() if name in known}
        if "shape" in values:
            values["shape"] = ScoreShape(**values["shape"])
        return cls(**values)

    def _problems(self) -> list[str]:
        found = []
        count = len(self.features)
        if not 0 < self.share < 1:
            found.append(f"share is {self.share}, expected above 0 and below 1")
        if self.features[:1] != (SCORE_LOGIT,) or len(set(self.features)) != count:
            found.append(f"features are {self.features}, expected {SCORE_LOGIT} first, each once")
        if unknown := sorted(set(self.features) - set(FEATURES)):
            found.append(f"unknown features {', '.join(unknown)}")
        if len(self.weights) != count or len(self.centres) not in (0, count):
            found.append("weights and centres do not match the features")
        elif not self.weights[0] > 0:
            found.append(f"weight of the score is {self.weights[0]}, expected above 0")
        if [len(row) for row in self.covariance] != [count + 1] * (count + 1):
            found.append(f"covariance is not {count + 1} × {count + 1}")
        if not self.region_sd >= 0:
            found.append(f"region_sd is {self.region_sd}, expected at least 0")
        return found


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
