"""The figures that people quote from a map, each with what belongs beside it.

Shares are of the buildings that were assessed, with those that nobody saw named beside them. For a
calibrated bundle the expected number of destroyed buildings stands first, with its interval. For
another one the count of severe verdicts carries what the model card says of such counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.outputs.expected import Expected, expected, interim_warning
from quakestream.outputs.numerals import percent

CHECKS = 100
"""Buildings to check before a number is passed on, as docs/trust.md and `sample --n` have it."""
SEVERE = ("major", "destroyed")
"""xBD grades that count as severe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The first figures of a map."""

    severe: int
    """Buildings with a severe verdict."""
    names: str
    """Labels of the severe classes, such as `heavy or destroyed`."""
    assessed: int
    total: int
    expected: Expected | None
    """How many are destroyed, in maps of calibrated bundles."""
    caveat: tuple[str, ...]
    """What belongs beside these figures, one sentence each."""

    @property
    def sentence(self) -> str:
        """`destroyed 43 % of the 212 assessed; 239 of 451 not seen`."""
        return share_sentence(self.names, self.severe, self.assessed, self.total)


def headline(run: Mapping[str, Any]) -> Headline:
    """The first figures of a published run (the content of run.json)."""
    counts, scale = run["counts"], run["damage_scale"]
    severe = [c["label"] for c in scale if c["xbd"] in SEVERE]
    number = sum(int(counts.get("damage", {}).get(label, 0)) for label in severe)
    bundle, found = run.get("bundle") or {}, expected(run)
    if found is None:
        caveat = [*interim_warning(run), *card_caveats(bundle, number, int(counts["assessed"]))]
    else:
        caveat = [*found.basis, *card_use(str(bundle.get("card", "")))]
    return Headline(
        severe=number,
        names=" or ".join(severe) or "severe",
        assessed=int(counts["assessed"]),
        total=int(counts["footprints"]),
        expected=found,
        caveat=tuple(caveat),
    )


def check_advice(run: Mapping[str, Any]) -> str:
    """What to do before the counts are relied on; empty where that was done, or none was seen."""
    assessed = int(run["counts"]["assessed"])
    if "verification" in run or not assessed:
        return ""
    which = f"{CHECKS} buildings" if assessed > CHECKS else f"the {assessed} assessed buildings"
    return (
        "Expect lower accuracy on a new earthquake than in the figures of the model card. Check "
        f"{which} by eye before you rely on the counts: `quakestream sample OUT --n {CHECKS}` "
        "draws them and writes an answer sheet, and `quakestream verify OUT ANSWERS` makes "
        "numbers with intervals of the answers."
    )


def share_sentence(names: str, severe: int, assessed: int, total: int) -> str:
    """A share of the assessed, and how many were not seen."""
    unseen = total - assessed
    beside = f"{unseen:,} of {total:,} not seen" if unseen else f"all {total:,} seen"
    if not assessed:
        return f"no building was assessed; {beside}"
    return f"{names} {percent(severe, assessed)} of the {assessed:,} assessed; {beside}"


def card_caveats(bundle: Mapping[str, Any], severe: int, assessed: int) -> list[str]:
    """What a bundle's figures and card say of a count of severe verdicts, in plain sentences."""
    point = _balanced_point(bundle.get("metrics"))
    sentences = []
    if point is not None:
        recall, false_alarms = point
        sentences.append(
            f"In the model's own tests it found {recall:.0%} of the damaged buildings and called "
            f"{false_alarms:.0%} of the undamaged ones damaged.".replace("%", " %")
        )
        if severe and assessed:
            sentences.append(_expected(severe / assessed, recall, false_alarms))
    return [*sentences, *card_use(str(bundle.get("card", "")))]


def _expected(declared: float, recall: float, false_alarms: float) -> str:
    """How many of the declared would be right, if the rates of the tests hold here.

    The share behind a declared share d is (d - f) / (r - f), after Rogan and Gladen (1978,
    Am. J. Epidemiology 107), with recall r and false alarm rate f.
    """
    if recall <= false_alarms or declared <= false_alarms:
        return "If these rates hold here, the count may be false alarms only."
    share = min((declared - false_alarms) / (recall - false_alarms), 1.0)
    right = min(recall * share / declared, 1.0)
    return f"If these rates hold here, about {100 * right:.0f} of 100 such verdicts are right."


def _balanced_point(metrics: Any) -> tuple[float, float] | None:
    """Recall and false alarm rate at the threshold that verdicts use, where the bundle has them."""
    points = metrics.get("operating_points") if isinstance(metrics, Mapping) else None
    point = points.get("balanced") if isinstance(points, Mapping) else None
    if not isinstance(point, Mapping):
        return None
    pair = point.get("recall"), point.get("false_alarm_rate")
    if all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in pair):
        return float(pair[0]), float(pair[1])  # type: ignore[arg-type]
    return None


def card_use(card: str) -> list[str]:
    """What the card's paragraph `**Use.**` warns of, in its own words; empty without warnings."""
    warnings = card_warnings(card)
    return [f"The model card: “{' '.join(warnings[:3])}”"] if warnings else []


def card_warnings(card: str) -> list[str]:
    """The sentences of the card's paragraph `**Use.**` that warn."""
    paragraph = next((p for p in card.split("\n\n") if p.lstrip().startswith("**Use.**")), "")
    text = " ".join(paragraph.replace("**Use.**", "").replace("**", "").replace("`", "").split())
    sentences = [s.strip() for s in text.replace(". ", ".\n").split("\n")]
    return [s for s in sentences if s.startswith(("Not ", "Never", "Do not", "Expect "))]


MARGINS = (0.5, 1.5)
CLARITY = ("close call", "fairly clear", "clear")
"""Words for the distance between score and threshold, in log-odds, below and above `MARGINS`.

0.5 is a score of 50 % at a threshold of 38 %: odds that differ by a factor of 1.6.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decisions:
    """How the verdicts of N buildings were decided."""

    score_N: NDArray[np.float64]
    """The cumulative probability nearest to the threshold: of `class_N` or worse."""
    class_N: NDArray[np.int64]
    clarity_N: NDArray[np.object_]
    """One of `CLARITY`."""


def decisions(
    p_NC: NDArray[np.float64], damage_N: NDArray[np.int64], threshold: float
) -> Decisions:
    """What decided each verdict, from its class probabilities and its class.

    The most severe class is declared whose cumulative probability (its own and worse) reaches
    the threshold. So a verdict hangs on two scores: that of the declared class, which reached
    it, and that of the next worse one, which did not. The nearer one is told.
    """
    rows_N, classes = np.arange(len(p_NC)), p_NC.shape[1]
    if not classes:
        unclear_N = np.full(len(p_NC), CLARITY[0], object)
        return Decisions(score_N=np.zeros(len(p_NC)), class_N=damage_N, clarity_N=unclear_N)
    cumulative_NC = p_NC[:, ::-1].cumsum(axis=1)[:, ::-1]
    distance_NC = np.abs(_log_odds(cumulative_NC) - _log_odds(np.array(threshold)))
    index_C = np.arange(classes)
    hangs_NC = (index_C == damage_N[:, None]) | (index_C == damage_N[:, None] + 1)
    hangs_NC[:, 0] = False  # the mildest class needs no score
    near_N = np.where(hangs_NC, distance_NC, np.inf).argmin(axis=1)
    steps_N = np.searchsorted(MARGINS, distance_NC[rows_N, near_N], side="right")
    return Decisions(
        score_N=cumulative_NC[rows_N, near_N],
        class_N=near_N,
        clarity_N=np.array(CLARITY, object)[steps_N],
    )


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(p, 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(bounded / (1 - bounded))
    return odds
