"""Writes a calibration into a bundle whose weights stay as they are."""

import json
from dataclasses import replace
from pathlib import Path

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.domain.calibration import Calibration
from training.cards import card_of
from training.mlm import RECORD, ModelFacts, write_record


def restate(folder: Path, calibration: Calibration) -> BundleSpec:
    """Rewrites manifest, card and catalogue record with a calibration, and verifies the bundle.

    Raises:
        BundleError: if the folder holds no bundle, or its task cannot be calibrated.
    """
    spec = replace(load_bundle(str(folder)).spec, calibration=calibration)
    write_record(folder, spec, _facts(folder))
    (folder / "card.md").write_text(card_of(spec))
    write_manifest(folder, spec)
    return load_bundle(str(folder)).spec


def _facts(folder: Path) -> ModelFacts:
    """What the bundle's own record says of its model."""
    known = json.loads((folder / RECORD).read_text())["properties"]
    return ModelFacts(
        architecture=known["mlm:architecture"],
        framework=known["mlm:framework"],
        framework_version=known["mlm:framework_version"],
        parameters=known.get("mlm:total_parameters"),
        pretrained_source=known["mlm:pretrained_source"],
    )
