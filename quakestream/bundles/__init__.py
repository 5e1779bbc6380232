"""Bundles: models as they are shipped. The only thing inference knows of a model."""

from quakestream.bundles.manifest import Bundle, load_bundle, shipped_names, write_manifest

__all__ = ["Bundle", "load_bundle", "shipped_names", "write_manifest"]
