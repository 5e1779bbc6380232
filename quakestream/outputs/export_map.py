"""Files for other programs, made of a map that is published already."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.exports import EXPORTS
from quakestream.outputs.map_layers import layers_of
from quakestream.outputs.readback import current_run
from quakestream.outputs.republish import snapshot_products
from quakestream.storage import Store


def exported(
    store: Store, formats: Sequence[str], place: str = ".."
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the files, one in memory at a time.

    Args:
        store: the output of a finished run.
        formats: names in `EXPORTS`.
        place: where the map lies, for links: its URI where files go to another folder.

    Raises:
        RequestError: if there is no finished map.
        StorageError: if a product is missing or damaged.
    """
    products = snapshot_products(store, current_run(store))
    rows = ordered_buildings(products.buildings, products.labels, products.layers)
    layers = replace(layers_of(products, rows), place=place)
    for name in formats:
        yield from EXPORTS[name].files(layers)
