"""Writes a calibration into a bundle whose weights stay as they are."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import BundleSpec
from quakestream.domain.calibration import Calibration
from training.cards import card_of
from training.mlm import RECORD, ModelFacts, write_record
from training.shares.judge import COUNTS, TownVerdict


def restate(
    folder: Path, calibration: Calibration, towns: Sequence[TownVerdict] = ()
) -> BundleSpec:
    """Rewrites manifest, card and catalogue record with a calibration, and verifies the bundle.

    Args:
        folder: of the bundle.
        calibration: fitted on tables of its scores.
        towns: verdicts on towns that were left out, for `metrics`.

    Raises:
        BundleError: if the folder holds no bundle, or its task cannot be calibrated.
    """
    before = load_bundle(str(folder)).spec
    counts = {COUNTS: [asdict(town) for town in towns]} if towns else {}
    spec = replace(before, calibration=calibration, metrics=before.metrics | counts)
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
