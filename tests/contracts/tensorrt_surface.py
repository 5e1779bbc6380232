"""Prints what the real TensorRT bindings offer, as JSON; run where stub libraries are found.

Per class: its methods with each overload's arguments and what it returns, its other attributes,
and for enums their members. Signatures are read from what pybind11 writes into docstrings.
"""

import json
import re
import sys
from typing import Any

_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\) -> (.+)$", re.MULTILINE)


def surface(module: Any) -> dict[str, Any]:
    classes = {n: v for n, v in vars(module).items() if isinstance(v, type)}
    return {
        "version": module.__version__,
        "classes": {name: described(found) for name, found in classes.items()},
    }


def described(found: type) -> dict[str, Any]:
    names = [n for n in dir(found) if not n.startswith("__") or n == "__init__"]
    members = {n: getattr(found, n) for n in names}
    return {
        "methods": {n: overloads(v.__doc__ or "") for n, v in members.items() if callable(v)},
        "attributes": [n for n, v in members.items() if not callable(v)],
        "enum": list(getattr(found, "__members__", ())),
    }


def overloads(text: str) -> list[dict[str, Any]]:
    return [
        {"arguments": arguments(inside), "gives": gives.split(".")[-1].split("::")[-1].strip("]")}
        for _, inside, gives in _SIGNATURE.findall(text)
        if inside != "*args, **kwargs"
    ]


def arguments(inside: str) -> list[dict[str, Any]]:
    """Names, types, and whether there is a default, of what stands between the brackets."""
    parts = re.sub(r"<[^<>]*(?:<[^<>]*>[^<>]*)*>", "None", inside)
    depth, cuts, start = 0, [], 0
    for place, sign in enumerate(parts + ","):
        depth += (sign in "[(") - (sign in "])")
        if sign == "," and depth == 0:
            cuts.append(parts[start:place].strip())
            start = place + 1
    named = [re.match(r"(\w+)(?::\s*([^=]+))?(=.*)?", cut) for cut in cuts if cut]
    return [
        {"name": m[1], "type": (m[2] or "").strip().split(".")[-1], "default": m[3] is not None}
        for m in named
        if m and m[1] != "self"
    ]


if __name__ == "__main__":
    import tensorrt_bindings

    sys.stdout.write(json.dumps(surface(tensorrt_bindings)))
