"""Shipped bundles, declared to be ones for finer pixels.

How long scoring takes hangs on the network and the windows, so the same graph shows the speed over
finer imagery. What it finds there means nothing.
"""

from dataclasses import replace
from pathlib import Path

from quakestream.bundles import load_bundle, write_manifest
from quakestream.bundles.files import MANIFEST


def declared_for(name: str, folder: Path, gsd_m: float) -> Path:
    """Writes a shipped bundle for pixels of another size, with all files but the manifest."""
    source = load_bundle(name)
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in source.files.items():
        if file != MANIFEST:
            (folder / file).write_bytes(content)
    write_manifest(folder, replace(source.spec, name=f"{name}-at-{gsd_m:g}-m", gsd_m=gsd_m))
    return folder
