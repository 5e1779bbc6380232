"""Figures and models as text, without arrays and tables: `status` imports it at once."""

from collections.abc import Mapping, Sequence
from typing import Any


def percent(part: float, whole: float) -> str:
    """`43 %`, `4.3 %`, `0.2 %`: two figures, and never 0 % or 100 % of what is not."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    rounded = f"{share:.0f}" if share in (0, 100) or 9.95 <= share < 99 else f"{share:.1f}"
    return f"{rounded} %"


def flat_metrics(metrics: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested figures as (path, text) pairs, numbers to three decimals."""
    if isinstance(metrics, Mapping):
        return [p for k, v in metrics.items() for p in flat_metrics(v, f"{prefix}{k} · ")]
    if isinstance(metrics, (list, tuple)):
        text = " – ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in metrics)
    else:
        text = f"{metrics:.3f}" if isinstance(metrics, float) else str(metrics)
    return [(prefix.removesuffix(" · "), text)]


IMAGE_MODELS = ("bundle", "landslide_bundle")
"""Models in run.json that judge images."""


def models_text(run: Mapping[str, Any]) -> str:
    """The models of a run.json that judge images, and the profile that its run file names."""
    names = [str(run[key]["name"]) for key in IMAGE_MODELS if run.get(key)]
    return models_with_profile(names, (run.get("request") or {}).get("profile"))


def models_with_profile(names: Sequence[str], profile: str | None) -> str:
    """`damage-context-2023, profile standard`."""
    beside = f", profile {profile}" if profile else ""
    return f"{' and '.join(dict.fromkeys(names)) or 'no model'}{beside}"
