"""An explanation as a table and as a figure. The SVG needs no plotting library."""

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from training.explanation import Explanation

F64 = NDArray[np.float64]

_COLOURS = (
    ("#33658a", "#fff"),
    ("#f6ae2d", "#222"),
    ("#758e4f", "#fff"),
    ("#86615c", "#fff"),
    ("#9d4edd", "#fff"),
    ("#55a5a0", "#222"),
    ("#c44536", "#fff"),
    ("#adb5bd", "#222"),
)
"""Colour of a part, and of the number written on it."""
_LEFT, _RIGHT, _ROW, _BAR = 150, 90, 34, 20
_WIDTH = 760


def markdown(result: Explanation) -> str:
    """The tables, each with a sentence on how to read it."""
    coalitions = "all" if result.method == "exact" else "a sample of"
    figures = [f"{k.replace('_', ' ')} {v:.3f}" for k, v in result.figures.items()]
    lines = [
        f"# Importance of the inputs of {result.model}",
        "",
        f"{result.buildings} buildings. Shapley values over {len(result.players)} inputs and "
        f"{coalitions} {result.coalitions} coalitions. An absent input is taken from "
        f"{result.background} other buildings. The values of a building add up to its "
        f"probabilities to {result.additivity:.0e}.",
        "",
        "Mean |Shapley value| of each class's probability, and its share of the class's sum:",
        "",
        *_table(("", *result.classes), [(p, *_with_share(result, i)) for i, p in _places(result)]),
        "",
        "Mean Shapley value with its sign, over the buildings of each class (above 0: speaks for "
        "what is true):",
        "",
        *_table(("", *result.classes), [(p, *_signed(result, i)) for i, p in _places(result)]),
        "",
        *_slopes(result),
        "Loss of each figure when an input is permuted among the buildings (± spread over the "
        f"permutations). With all inputs in place: {', '.join(figures)}.",
        "",
        *_table(
            (
                "",
                *(n.replace("_", " ") for n in result.figures),
                *(f"AUC {c}" for c in result.classes),
            ),
            [(p, *_drops(result, i)) for i, p in _places(result)],
        ),
        "",
    ]
    return "\n".join(lines)


def svg(result: Explanation) -> str:
    """One bar per class, divided by the shares of the inputs, with the sum beside it."""
    names, share_PC = _shown(result)
    legend, top = _legend(names)
    bottom = top + _ROW * len(result.classes)
    height = bottom + 42
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        f"<title>Importance of the inputs of {escape(result.model)} per class</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="600">{escape(result.model)}: '
        "importance of the inputs per class</text>",
        *legend,
        *_axis(bottom),
        *_bars(result, names, share_PC, top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _shown(result: Explanation) -> tuple[list[str], F64]:
    """Names and shares of the parts of a bar; the smallest of many players become one part."""
    share_PC = np.array(result.share)
    if len(result.players) <= len(_COLOURS):
        return list(result.players), share_PC
    order = np.argsort(-share_PC.mean(axis=1), kind="stable")
    first, rest = np.sort(order[: len(_COLOURS) - 1]), order[len(_COLOURS) - 1 :]
    names = [*(result.players[p] for p in first), f"{len(rest)} others"]
    return names, np.concatenate([share_PC[first], share_PC[rest].sum(axis=0, keepdims=True)])


def _legend(names: Sequence[str]) -> tuple[list[str], int]:
    """The legend, and the height at which the bars begin below it."""
    parts, x, y = [], 16.0, 40
    for name, (colour, _) in zip(names, _COLOURS, strict=False):
        width = 34 + 7.2 * len(name)
        if x + width > _WIDTH:
            x, y = 16.0, y + 20
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="{y + 11}">{escape(name)}</text>')
        x += width
    return parts, y + 36


def _bars(result: Explanation, names: Sequence[str], share_PC: F64, top: int) -> Iterator[str]:
    scale = _WIDTH - _LEFT - _RIGHT
    total_C = np.array(result.shapley).sum(axis=0)
    for c, label in enumerate(result.classes):
        y, x = top + _ROW * c, float(_LEFT)
        yield f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(label)}</text>'
        for name, share, (colour, ink) in zip(names, share_PC[:, c], _COLOURS, strict=False):
            width = share * scale
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}">'
                f"<title>{escape(f'{name}: {share:.0%} of {label}')}</title></rect>"
            )
            if width > 34:
                yield (
                    f'<text x="{x + width / 2:.1f}" y="{y + 14}" text-anchor="middle" '
                    f'font-size="11" fill="{ink}">{share:.0%}</text>'
                )
            x += width
        yield f'<text x="{x + 8:.0f}" y="{y + 15}" fill="#555">Σ {total_C[c]:.3f}</text>'


def _axis(y: int) -> Iterator[str]:
    scale = _WIDTH - _LEFT - _RIGHT
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + tick * scale
        yield f'<text x="{x:.0f}" y="{y + 8}" text-anchor="middle" font-size="11">{tick:.0%}</text>'
    yield (
        f'<text x="{_LEFT}" y="{y + 28}" font-size="11" fill="#555">share of the mean |Shapley '
        "value| of the class's probability; Σ is that mean over all inputs</text>"
    )


def _places(result: Explanation) -> Iterator[tuple[int, str]]:
    return enumerate(result.players)


def _with_share(result: Explanation, p: int) -> list[str]:
    return [f"{v:.4f} ({s:.0%})" for v, s in zip(result.shapley[p], result.share[p], strict=True)]


def _signed(result: Explanation, p: int) -> list[str]:
    return ["–" if np.isnan(v) else f"{v:+.4f}" for v in result.signed[p]]


def _slopes(result: Explanation) -> list[str]:
    """The table of slopes, if an input is one number."""
    rows = [
        (name, *(f"{v:+.4f}" for v in slope_C))
        for name, slope_C in zip(result.players, result.slope, strict=True)
        if not np.isnan(slope_C).all()
    ]
    if not rows:
        return []
    words = "Slope of the Shapley value over the input, per standard deviation (above 0: larger "
    return [f"{words}values speak for the class):", "", *_table(("", *result.classes), rows), ""]


def _drops(result: Explanation, p: int) -> list[str]:
    lost = result.drop[p]
    figures = [f"{lost[n]:+.3f} ± {lost[f'{n}_spread']:.3f}" for n in result.figures]
    return figures + ["–" if np.isnan(v) else f"{v:+.3f}" for v in result.auc_drop[p]]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
