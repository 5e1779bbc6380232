"""What a bundle takes and gives, in a few members of JSON."""

from typing import Any

from quakestream.bundles.manifest import Bundle


def bundle_statement(bundle: Bundle) -> dict[str, Any]:
    """What a bundle takes and gives: `bundle list --json`, and `/bundles` of the service."""
    spec = bundle.spec
    return {
        "name": spec.name,
        "version": spec.version,
        "digest": bundle.digest,
        "task": spec.task,
        "epochs": list(spec.epochs),
        "bands": list(spec.bands),
        "gsd_m": spec.gsd_m,
        "chip_px": spec.window_px,
        "hazard": [{"name": value.name, "unit": value.unit} for value in spec.hazard],
        "classes": list(spec.labels),
        "threshold": spec.thresholds.balanced,
        "calibrated": spec.calibration is not None,
        "share": spec.calibration.share if spec.calibration else None,
    }
