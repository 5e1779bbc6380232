"""Rewrites exported graphs to half precision, as `torch.autocast` would run them.

Convolutions, products and attention run in half precision, since they are most of the arithmetic.
Norms, exponentials and means run in float32, since they would lose too much. All other operators
run in the type of their inputs. A rewritten graph behaves alike in every mode, and its weights are
narrowed once.

Operators are identified by name, so this module does not import torch.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

NARROW = {
    "aten.conv1d.default",
    "aten.conv2d.default",
    "aten.conv2d.padding",
    "aten.conv_transpose2d.input",
    "aten.linear.default",
    "aten.matmul.default",
    "aten.bmm.default",
    "aten.addmm.default",
    "aten.scaled_dot_product_attention.default",
}
WIDE = {
    "aten.layer_norm.default",
    "aten.softmax.int",
    "aten.log_softmax.int",
    "aten.exp.default",
    "aten.log.default",
    "aten.pow.Tensor_Scalar",
    "aten.mean.dim",
    "aten.sum.dim_IntList",
}
_ASSERTS = "aten._assert_tensor_metadata.default"


def narrowed(module: Any, *, to: Callable[..., Any], half: Any, full: Any) -> None:
    """Rewrites a `torch.fx.GraphModule` in place.

    Args:
        to: the cast operator, `aten.to.dtype`.
        half: type of half precision.
        full: float32.
    """
    casts: dict[tuple[Any, Any], Any] = {}
    for node in list(module.graph.nodes):
        name = str(node.target)
        if name == _ASSERTS:
            module.graph.erase_node(node)  # it requires the types of the export
        elif name in NARROW or name in WIDE:
            kind = half if name in NARROW else full
            for source in [n for n in node.all_input_nodes if _is_float(n, module)]:
                if (source, kind) not in casts:
                    with module.graph.inserting_before(node):  # the first user of the cast
                        casts[source, kind] = module.graph.call_function(to, (source, kind))
                node.replace_input_with(source, casts[source, kind])
    for (source, kind), cast in casts.items():
        if source.op == "get_attr" and list(source.users) == [cast]:
            _narrow_weight(module, str(source.target), kind)
            cast.replace_all_uses_with(source)
            module.graph.erase_node(cast)
    module.graph.lint()
    module.recompile()


def _is_float(node: Any, module: Any) -> bool:
    value = node.meta.get("val")
    if value is None and node.op == "get_attr":
        value = attrgetter(str(node.target))(module)
    return bool(hasattr(value, "is_floating_point") and value.is_floating_point())


def _narrow_weight(module: Any, name: str, kind: Any) -> None:
    """Stores a weight in the only precision that it is used in."""
    weight = attrgetter(name)(module)
    weight.data = weight.data.to(kind)
