"""The notebook of the documentation runs from its first cell to its last."""

import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def cells() -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Runs a cell as a notebook does; gives the value of a last line that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_it_holds_no_output_and_no_path_of_a_machine() -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells())
    assert "/home/" not in NOTEBOOK.read_text()
    assert "/tmp/" not in NOTEBOOK.read_text()


def test_every_cell_runs_and_values_are_shown_as_tables() -> None:
    names: dict[str, Any] = {}
    shown = [run_cell("".join(cell["source"]), names) for cell in cells()]
    run, plan, result, counts, score, report, _ = shown[1:]
    assert repr(run).startswith("<run synthetic of a mapping, ")
    total = result.run["counts"]["footprints"]
    assert repr(plan).startswith(f"<plan synthetic: {total:,} footprints, ")
    assert repr(result).startswith(f"<map {result.run['run_id']}: {total:,} of {total:,} ")
    assert counts.sum() == total
    assert score.auc.value > 0.8
    assert report.endswith("/report.html")
    for value, row in ((result, "destroyed"), (score, "ROC-AUC")):
        assert f">{row}</th>" in value._repr_html_()
    assert not names["folder"].exists()
