"""Rules for an Item of the Machine Learning Model extension 1.5.2.

They are written from its README and STAC 1.1, not fetched: tests run without a network.
"""

from typing import Any

from jsonschema import Draft202012Validator

Rule = dict[str, Any]

_TEXT: Rule = {"type": "string", "minLength": 1}
_TASKS: Rule = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"enum": ["classification", "semantic-segmentation"]},
}
_ARRAY: Rule = {
    "type": "object",
    "required": ["shape", "dim_order", "data_type"],
    "properties": {
        "shape": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "anyOf": [{"const": -1}, {"minimum": 1}]},
        },
        "dim_order": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": "string", "pattern": "^[a-z_-]+$"},
        },
        "data_type": {"enum": ["uint8", "uint16", "float32"]},
    },
}


def _dimension(field: str, array: str) -> Rule:
    """A non-empty `bands` or `variables` must be a dimension of the array."""
    dimension = {
        "properties": {array: {"properties": {"dim_order": {"contains": {"const": field}}}}}
    }
    return {
        "if": {"required": [field], "properties": {field: {"minItems": 1}}},
        "then": dimension,
        "else": {"not": {"required": [array], **dimension}},
    }


def _named(array: str, *more: str) -> Rule:
    return {
        "type": "object",
        "required": ["name", array, *more],
        "properties": {
            "name": _TEXT,
            "description": _TEXT,
            "tasks": _TASKS,
            "bands": {"type": "array", "items": _TEXT},
            "variables": {"type": "array", "items": _TEXT},
            array: _ARRAY,
            "value_scaling": {"type": "null"},
            "resize_type": {"type": "null"},
            "post_processing_function": {
                "type": ["object", "null"],
                "required": ["format", "expression"],
            },
            "classification:classes": {
                "type": "array",
                "minItems": 2,
                "items": {"type": "object", "required": ["value", "name", "description"]},
            },
        },
        "additionalProperties": False,
        "allOf": [_dimension("bands", array), _dimension("variables", array)],
    }


_MLM: Rule = {
    "required": ["mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"],
    "properties": {
        "mlm:name": {"type": "string", "pattern": r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$"},
        "mlm:architecture": _TEXT,
        "mlm:tasks": _TASKS,
        "mlm:framework": {"enum": ["PyTorch", "scikit-learn"]},
        "mlm:framework_version": {
            "type": "string",
            "pattern": r"^\d+\.\d+\.\d+([-+][0-9a-zA-Z.-]+)?$",
        },
        "mlm:total_parameters": {"type": "integer", "minimum": 0},
        "mlm:pretrained": {"type": "boolean"},
        "mlm:pretrained_source": {"type": ["string", "null"]},
        "mlm:accelerator": {"enum": ["amd64", "cuda", None]},
        "mlm:accelerator_constrained": {"type": "boolean"},
        "mlm:input": {"type": "array", "minItems": 1, "items": _named("input")},
        "mlm:output": {"type": "array", "minItems": 1, "items": _named("result", "tasks")},
        "mlm:hyperparameters": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[0-9a-zA-Z_.-]+$"},
        },
    },
    "patternProperties": {"^(?!mlm:)": {}},
    "additionalProperties": False,
    # STAC: no instant, so a span of time; bands and variables are described where they are named.
    "allOf": [
        {"required": ["datetime", "start_datetime", "end_datetime"]},
        {
            "if": {"properties": {"mlm:input": {"contains": {"required": ["bands"]}}}},
            "then": {
                "required": ["bands"],
                "properties": {
                    "bands": {"type": "array", "minItems": 1, "items": {"required": ["name"]}}
                },
            },
        },
        {
            "if": {"properties": {"mlm:input": {"contains": {"required": ["variables"]}}}},
            "then": {
                "required": ["cube:variables", "cube:dimensions"],
                "properties": {
                    "cube:variables": {
                        "minProperties": 1,
                        "additionalProperties": {"required": ["dimensions", "type", "unit"]},
                    }
                },
            },
        },
    ],
}
_ASSET: Rule = {
    "type": "object",
    "required": ["href", "roles"],
    "if": {"properties": {"roles": {"contains": {"const": "mlm:model"}}}},
    "then": {
        "required": ["mlm:artifact_type", "file:size", "file:checksum"],
        "properties": {"file:checksum": {"type": "string", "pattern": "^1220[0-9a-f]{64}$"}},
    },
    "else": {"not": {"required": ["mlm:artifact_type"]}},
}

MLM_RULES = Draft202012Validator(
    {
        "type": "object",
        "required": [
            *("type", "stac_version", "stac_extensions", "id", "geometry"),
            *("properties", "links", "assets"),
        ],
        "properties": {
            "type": {"const": "Feature"},
            "stac_version": {"const": "1.1.0"},
            "stac_extensions": {
                "type": "array",
                "contains": {"const": "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"},
            },
            "id": _TEXT,
            "links": {"type": "array"},
            "properties": _MLM,
            "assets": {
                "type": "object",
                "additionalProperties": _ASSET,
                "required": ["model"],
                "properties": {
                    "model": {"properties": {"roles": {"contains": {"const": "mlm:model"}}}}
                },
            },
        },
        "dependentRequired": {"bbox": ["geometry"]},
    }
)
