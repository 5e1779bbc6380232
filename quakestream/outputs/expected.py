"""The expected number of destroyed buildings and their share, in the words of pages."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quakestream.outputs.layout import INTERIM


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """How many buildings are destroyed, from `shares` of run.json."""

    label: str
    """The most severe class."""
    buildings: int
    """Assessed buildings, of which the number is."""
    number: float
    low: float
    high: float
    """Ends of the 90 % interval."""
    declared: int
    mode: str
    prior: Mapping[str, Any]
    threshold: float
    warnings: tuple[str, ...] = ()
    """Sentences that must stand beside the number: where the scores contradict the share that the
    run was told, and what `verify` warns of."""
    meant_for: str = ""
    """`lists` or `numbers`: what the model is for; empty where nothing is known of it."""

    @property
    def advice(self) -> str:
        """Where a number to publish comes from; empty for a model for numbers and checked maps."""
        return FOR_LISTS if self.meant_for == "lists" and self.mode != "verified" else ""

    @property
    def beside_it(self) -> tuple[str, ...]:
        """Sentences that must stand wherever the number stands."""
        return (*self.warnings, *([self.advice] if self.advice else []))

    @property
    def amount(self) -> str:
        """The number in figures."""
        return amount(self.number)

    @property
    def interval(self) -> str:
        """`150 to 210`."""
        return f"{amount(self.low)} to {amount(self.high)}"

    @property
    def rest(self) -> str:
        """What follows the number: `destroyed (90 %: 150 to 210), estimated`."""
        return f"{self.label} (90 %: {self.interval}), estimated"

    @property
    def beside(self) -> str:
        """`of the 726 assessed (24 %); declared: 165`."""
        share = f"{amount(100 * self.number / self.buildings)} %"
        return f"of the {self.buildings:,} assessed ({share}); declared: {self.declared:,}"

    @property
    def line(self) -> str:
        """One line: `About 176 destroyed (90 %: 150 to 210), estimated, of the 726 assessed …`."""
        return f"About {self.amount} {self.rest}, {self.beside}"

    @property
    def basis(self) -> tuple[str, ...]:
        """What the number rests on, one sentence each."""
        at = f"{100 * self.threshold:.0f} %"
        if self.mode == "verified":
            return (
                *self.warnings,
                _SHARES[self.mode].format(self.label, _stated(self.prior)),
                f"Probabilities and verdicts are restated by these checks. From {at} on a building "
                f"is declared {self.label}, so that as many are declared as are estimated: quote "
                "the estimated number with its interval.",
            )
        then = (
            ". Take" if self.advice else ": quote the estimated number with its interval, and take"
        )
        return (
            *self.beside_it,
            _SHARES[self.mode].format(self.label, _stated(self.prior)),
            f"A building is declared {self.label} from a probability of {at}. The estimated number "
            f"adds up all probabilities, so it differs from the number declared{then} single "
            "buildings from the list. Neither counts buildings that were not seen.",
        )


FOR_LISTS = (
    "This model is for lists: it finds most, and its numbers are less sure. For a number to "
    "publish, map with the model of `profile: standard`, or check a sample (`quakestream sample`)."
)
"""What stands beside the expected number of a model for lists."""
_FAR = "The interval holds how far the model may be off in a region that it does not know"
_SOURCES = {
    "hazard values": " and what hazard values say of it",
    "labels of this event": " and the share that labels of this event state",
}
"""What a share was estimated from besides the scores, by `prior.from` of run.json."""
_SHARES = {
    "auto": "The share of {0} buildings was estimated in each unit of summary.csv, from the scores "
    f"of its buildings{{1}}. {_FAR}.",
    "verified": "The number comes from {1} that people checked, spread over the map by its scores: "
    "verification.json says how many of each class, and how often the model was right.",
    "number": "The run was told that {1} of the buildings are {0} (models.share). "
    f"{_FAR}, and not that the share may be wrong.",
    "layer": "The run was told the share of {0} buildings by the layer {1} (models.share). "
    f"{_FAR}, and not that the layer may be wrong.",
}


def expected(run: Mapping[str, Any]) -> Expected | None:
    """The expected number of a published run; None without a calibrated bundle or any verdict."""
    shares = run.get("shares") or {}
    whole = shares.get("run") or {}
    if not whole.get("buildings"):
        return None
    return Expected(
        label=str(shares["label"]),
        buildings=int(whole["buildings"]),
        number=float(whole["expected"]),
        low=float(whole["expected_low"]),
        high=float(whole["expected_high"]),
        declared=int(whole["declared"]),
        mode=str(shares["mode"]),
        prior=shares.get("prior") or {},
        threshold=float(shares["threshold"]),
        meant_for=str((run.get("bundle") or {}).get("meant_for", "")),
        warnings=(
            *interim_warning(run),
            *_contradiction(shares),
            *map(str, (run.get("verification") or {}).get("warnings", ())),
        ),
    )


def interim_warning(run: Mapping[str, Any]) -> Iterator[str]:
    """What to say of a map of what its run has read so far."""
    if left := run.get(INTERIM):
        yield (
            f"Interim map: {left['buildings_pending']:,} buildings are not read yet. The run goes "
            "on, and its next map replaces this one."
        )


def _contradiction(shares: Mapping[str, Any]) -> Iterator[str]:
    """What to say where the scores of a map contradict the share that the run was told."""
    scores = shares.get("by_scores") or {}
    if not scores.get("contradict"):
        return
    whole = shares["run"]
    stated = whole.get("stated", whole["share"])  # maps of older versions have only `share`
    yield (
        f"The scores contradict models.share: it says {amount(100 * stated)} % "
        f"{shares['label']}, and they fit {share_interval(scores)}. Check a sample "
        "(`quakestream sample`), or leave the share to the run (`auto`)."
    )


def amount(number: float) -> str:
    """`1,204`, `12`, `3.4`, `0`: whole numbers from ten on, a tenth below."""
    if number >= 9.95:
        return f"{number:,.0f}"
    return f"{number:.1f}".removesuffix(".0")


def share_interval(area: Mapping[str, Any]) -> str:
    """`12 % (8 to 18 %)` of an area or the run of `shares`."""
    low, high = 100 * float(area["low"]), 100 * float(area["high"])
    own = f"{amount(100 * float(area['share']))} %"
    return own if low == high else f"{own} ({amount(low)} to {amount(high)} %)"


def _stated(prior: Mapping[str, Any]) -> str:
    """The part of a sentence on shares that names what was assumed."""
    if "checks" in prior:
        return f"{prior['checks']:,} buildings"
    if "layer" in prior:
        return str(prior["layer"])
    if "from" not in prior:
        return f"{100 * float(prior.get('share', 0)):g} %"
    return _SOURCES.get(str(prior["from"]), "")
