"""Converters that skl2onnx lacks: `HazardTerms`, `LayerBayes`, and boosting.

For `HistGradientBoostingClassifier`, skl2onnx 1.20 gives numpy booleans to onnx 1.23, which
refuses them. Here every attribute is a plain Python number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.ensemble import HistGradientBoostingClassifier

from training.hazard.bayes import LayerBayes
from training.hazard.terms import REACH, HazardTerms

ML_OPSET = 3


def register() -> None:
    """Registers the converters in skl2onnx; a second call has no effect."""
    from skl2onnx import update_registered_converter

    update_registered_converter(
        HazardTerms, "QuakestreamHazardTerms", _terms_shape, _terms_nodes, overwrite=True
    )
    for model, alias, nodes in (
        (LayerBayes, "QuakestreamLayerBayes", _bayes_nodes),
        (HistGradientBoostingClassifier, "QuakestreamBoosting", _boosting_nodes),
    ):
        update_registered_converter(
            model,
            alias,
            _classifier_shape,
            nodes,
            overwrite=True,
            options={"zipmap": [True, False, "columns"], "nocl": [True, False]},
        )


class _Nodes:
    """Adds nodes to a graph under construction; each method returns the name of a result."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def constant(self, value: Any, kind: int = TensorProto.FLOAT) -> str:
        name: str = self._scope.get_unique_variable_name("constant")
        array = np.asarray(value)
        self._container.add_initializer(name, kind, list(array.shape), array.ravel().tolist())
        return name

    def add(self, op: str, *inputs: str, out: str = "", version: int = 13, **more: Any) -> str:
        name = out or self._scope.get_unique_variable_name(op.lower())
        self._container.add_node(
            op,
            list(inputs),
            [name],
            op_version=version,
            name=self._scope.get_unique_operator_name(op),
            **more,
        )
        return name


def _terms_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType

    terms = len(operator.raw_operator.factors_TD)
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), terms])


def _terms_nodes(scope: Any, operator: Any, container: Any) -> None:
    """As `HazardTerms.transform`, operator by operator."""
    terms: HazardTerms = operator.raw_operator
    nodes, values = _Nodes(scope, container), operator.inputs[0].full_name
    one = nodes.constant(1.0)
    absent = nodes.add("IsNaN", values)
    flag = nodes.add("Cast", absent, to=TensorProto.FLOAT)
    shifted = nodes.add("Sub", values, nodes.constant(terms.mean_), version=14)
    scaled = nodes.add("Div", shifted, nodes.constant(terms.std_), version=14)
    clipped = nodes.add("Clip", scaled, nodes.constant(-REACH), nodes.constant(REACH))
    z = nodes.add("Where", absent, nodes.constant(0.0), clipped, version=16)
    known = nodes.add("Concat", z, flag, axis=1)
    # One column of ones pads terms of fewer factors.
    pads = nodes.constant([0, 0, 0, 1], TensorProto.INT64)
    columns = nodes.add("Pad", known, pads, one, mode="constant")
    product = ""
    for factor_T in terms.factors_TD.T:
        taken = nodes.add("Gather", columns, nodes.constant(factor_T, TensorProto.INT64), axis=1)
        product = nodes.add("Mul", product, taken, version=14) if product else taken
    nodes.add("Identity", product, out=operator.outputs[0].full_name, version=16)


def _bayes_nodes(scope: Any, operator: Any, container: Any) -> None:
    """As `LayerBayes.predict_proba`; the curve is a sum of clipped ramps."""
    model: LayerBayes = operator.raw_operator
    nodes, values = _Nodes(scope, container), operator.inputs[0].full_name
    last = nodes.constant([2], TensorProto.INT64)
    width_MK = np.diff(model.at_MK, axis=1)
    slope_MK = np.diff(model.score_MK, axis=1) / width_MK
    column = nodes.add("Unsqueeze", values, last)
    past = nodes.add("Sub", column, nodes.constant(model.at_MK[:, :-1]), version=14)
    ramp = nodes.add("Max", past, nodes.constant(0.0))
    climbed = nodes.add("Min", ramp, nodes.constant(width_MK))
    risen = nodes.add("Mul", climbed, nodes.constant(slope_MK), version=14)
    total = nodes.add("ReduceSum", risen, last, keepdims=0)
    z = nodes.add("Add", total, nodes.constant(model.score_MK[:, 0]), version=14)
    row = nodes.add("Unsqueeze", z, nodes.constant([1], TensorProto.INT64))
    off = nodes.add("Sub", row, nodes.constant(model.mean_CM), version=14)
    squared = nodes.add("Mul", off, off, version=14)
    scaled = nodes.add("Mul", squared, nodes.constant(-0.5 / model.variance_CM), version=14)
    log_norm = nodes.constant(-0.5 * np.log(model.variance_CM))
    each = nodes.add("Add", scaled, log_norm, version=14)
    absent = nodes.add("IsNaN", each)
    known = nodes.add("Where", absent, nodes.constant(0.0), each, version=16)
    evidence = nodes.add("ReduceSum", known, last, keepdims=0)
    scores = nodes.add("Add", evidence, nodes.constant(np.log(model.prior_C)), version=14)
    _outputs(nodes, operator, scores)


def _classifier_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType

    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = Int64TensorType([rows])
    classes = len(operator.raw_operator.classes_)
    operator.outputs[1].type = FloatTensorType([rows, classes])


def _boosting_nodes(scope: Any, operator: Any, container: Any) -> None:
    """Sums of leaves, then softmax."""
    # The trees are private attributes of scikit-learn; there is no public access.
    model: HistGradientBoostingClassifier = operator.raw_operator
    nodes, trees = _Nodes(scope, container), model._predictors
    scores = nodes.add(
        "TreeEnsembleRegressor",
        operator.inputs[0].full_name,
        version=ML_OPSET,
        op_domain="ai.onnx.ml",
        **_ensemble(trees, np.ravel(model._baseline_prediction)),
    )
    if len(trees[0]) == 1:
        # Of two classes there is one score r: softmax((0, r)) is (1 - σ(r), σ(r)).
        scores = nodes.add("MatMul", scores, nodes.constant([[0.0, 1.0]]))
    _outputs(nodes, operator, scores)


def _outputs(nodes: _Nodes, operator: Any, scores: str) -> None:
    label, probabilities = (o.full_name for o in operator.outputs)
    nodes.add("Softmax", scores, out=probabilities, axis=1)
    nodes.add("ArgMax", scores, out=label, axis=1, keepdims=0)


def _ensemble(trees: Sequence[Sequence[Any]], baseline: NDArray[np.float64]) -> dict[str, Any]:
    """Attributes of a TreeEnsembleRegressor: `trees` by round and target."""
    nodes: list[dict[str, Any]] = []
    leaves: list[dict[str, Any]] = []
    flat = [(target, tree) for rounds in trees for target, tree in enumerate(rounds)]
    for number, (target, tree) in enumerate(flat):
        for place, node in enumerate(tree.nodes):
            here = {"treeids": number, "nodeids": place}
            nodes.append(here | _node(node))
            if node["is_leaf"]:
                leaves.append(here | {"ids": target, "weights": float(node["value"])})
    return {
        **{f"nodes_{key}": [n[key] for n in nodes] for key in nodes[0]},
        **{f"target_{key}": [n[key] for n in leaves] for key in leaves[0]},
        "n_targets": len(trees[0]),
        "base_values": [float(v) for v in baseline],
        "post_transform": "NONE",
        "aggregate_function": "SUM",
    }


def _node(node: Any) -> dict[str, Any]:
    if node["is_leaf"]:
        branch: tuple[Any, ...] = (0, "LEAF", 0.0, 0, 0, 0)
    else:
        branch = (
            int(node["feature_idx"]),
            "BRANCH_LEQ",
            _below(float(node["num_threshold"])),
            int(node["left"]),
            int(node["right"]),
            int(node["missing_go_to_left"]),
        )
    keys = ("featureids", "modes", "values", "truenodeids", "falsenodeids")
    return dict(zip((*keys, "missing_value_tracks_true"), branch, strict=True))


def _below(threshold: float) -> float:
    """The largest float32 not above the threshold, which divides float32 values alike."""
    near = np.float32(threshold)
    return float(near if near <= threshold else np.nextafter(near, np.float32(-np.inf)))
