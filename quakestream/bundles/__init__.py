"""Bundles: models in the form they are shipped. Inference knows nothing else of a model."""

from quakestream.bundles.files import Asked, shipped_names
from quakestream.bundles.manifest import Bundle, load_bundle, write_manifest
from quakestream.bundles.statement import bundle_statement

__all__ = ["Asked", "Bundle", "bundle_statement", "load_bundle", "shipped_names", "write_manifest"]
