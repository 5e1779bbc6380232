"""An explanation as a table to read and a figure to show. SVG by hand: no plotting library."""

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
"""A part's colour, and that of the figure written on it."""
_LEFT, _RIGHT, _ROW, _BAR = 150, 90, 34, 20
_WIDTH = 760


def markdown(told: Explanation) -> str:
    """The tables, and in a sentence each how to read them."""
    lines = [
        f"# What {told.model} goes by",
        "",
        f"{told.buildings} buildings. Shapley values over {len(told.players)} inputs, "
        f"{'all' if told.method == 'exact' else 'a sample of'} {told.coalitions} coalitions, an "
        f"absent input taken from {told.background} other buildings; the values of a building add "
        f"up to its probabilities to {told.additivity:.0e}.",
        "",
        "Mean |Shapley value| of each class's probability, and its share of the class's sum:",
        "",
        *_table(("", *told.classes), [(p, *_with_share(told, i)) for i, p in _places(told)]),
        "",
        "What the figures lose when an input is dealt out at random among the buildings "
        "(± spread over the deals). With all inputs in place: "
        + ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in told.figures.items())
        + ".",
        "",
        *_table(
            ("", *(n.replace("_", " ") for n in told.figures), *(f"AUC {c}" for c in told.classes)),
            [(p, *_drops(told, i)) for i, p in _places(told)],
        ),
        "",
    ]
    return "\n".join(lines)


def svg(told: Explanation) -> str:
    """Per class one bar, its parts the shares of the inputs, and the sum they are shares of."""
    names, share_PC = _shown(told)
    legend, top = _legend(names)
    bottom = top + _ROW * len(told.classes)
    height = bottom + 42
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="#222">',
        f"<title>Importance of the inputs of {escape(told.model)} per class</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="24" font-size="15" font-weight="600">{escape(told.model)}: what each '
        "class goes by</text>",
        *legend,
        *_axis(bottom),
        *_bars(told, names, share_PC, top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _shown(told: Explanation) -> tuple[list[str], F64]:
    """Players that get a colour of their own, the smallest of many as one, and their shares."""
    share_PC = np.array(told.share)
    if len(told.players) <= len(_COLOURS):
        return list(told.players), share_PC
    order = np.argsort(-share_PC.mean(axis=1), kind="stable")
    kept, rest = np.sort(order[: len(_COLOURS) - 1]), order[len(_COLOURS) - 1 :]
    names = [*(told.players[p] for p in kept), f"{len(rest)} others"]
    return names, np.concatenate([share_PC[kept], share_PC[rest].sum(axis=0, keepdims=True)])


def _legend(names: Sequence[str]) -> tuple[list[str], int]:
    """The names by their colours, and where the bars begin below them."""
    parts, x, y = [], 16.0, 40
    for name, (colour, _) in zip(names, _COLOURS, strict=False):
        width = 34 + 7.2 * len(name)
        if x + width > _WIDTH:
            x, y = 16.0, y + 20
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17:.0f}" y="{y + 11}">{escape(name)}</text>')
        x += width
    return parts, y + 36


def _bars(told: Explanation, names: Sequence[str], share_PC: F64, top: int) -> Iterator[str]:
    scale = _WIDTH - _LEFT - _RIGHT
    total_C = np.array(told.shapley).sum(axis=0)
    for c, label in enumerate(told.classes):
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


def _places(told: Explanation) -> Iterator[tuple[int, str]]:
    return enumerate(told.players)


def _with_share(told: Explanation, p: int) -> list[str]:
    return [f"{v:.4f} ({s:.0%})" for v, s in zip(told.shapley[p], told.share[p], strict=True)]


def _drops(told: Explanation, p: int) -> list[str]:
    lost = told.drop[p]
    figures = [f"{lost[n]:+.3f} ± {lost[f'{n}_spread']:.3f}" for n in told.figures]
    return figures + ["–" if np.isnan(v) else f"{v:+.3f}" for v in told.auc_drop[p]]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
