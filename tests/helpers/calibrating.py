"""Bundles with a calibration of buildings."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from quakestream.bundles import load_bundle, write_manifest
from quakestream.domain import Calibration

PLAIN = Calibration(
    share=0.5,
    features=("score_logit",),
    weights=(2.0,),
    intercept=1.0,
    covariance=((0.04, 0.0), (0.0, 0.04)),
    region_sd=0.3,
    fitted_on="2 made-up regions, 80 buildings of 200 destroyed",
)
"""A score of s gives the log-odds 1 + 2 logit(s) where half of the buildings are destroyed."""


def calibrate_bundle(folder: Path, calibration: Calibration = PLAIN) -> Path:
    """Writes a calibration into the manifest of a bundle."""
    spec = load_bundle(str(folder)).spec
    write_manifest(folder, replace(spec, calibration=calibration))
    return folder


def edit_manifest(folder: Path, **changes: Any) -> Path:
    """Replaces keys of `bundle.json`; None deletes one."""
    path = folder / "bundle.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder
