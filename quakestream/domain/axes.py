"""Axis letters of array names: `pixels_NBYX` has items, bands, rows and columns, in that order.

Each letter has one meaning in the whole repository. A digit is the length of an axis:
`corner_N2` has two numbers for each item.
"""

AXES = {
    "N": "items of a batch, or rows of a table",
    "n": "items of a part of a batch",
    "B": "bands of an image",
    "Y": "rows of an image",
    "X": "columns of an image",
    "C": "classes of a damage scale",
    "H": "classes of another scale, before they are mapped to C",
    "K": "outputs of a graph: one per class, or one for two classes",
    "M": "hazard values",
    "F": "footprints of a cell",
    "W": "windows of a cell",
    "R": "regions: owners of the pixels of a batch, or districts",
    "Q": "qualities of a pixel",
    "P": "pixels in a flat list",
    "A": "pairs of two things: a footprint and a view, or a region and a footprint",
    "U": "draws of a posterior, or alternatives that it weighs",
    "T": "touches: pairs of an item and a window or part",
    "G": "groups of items",
    "E": "edges or corners of a ring",
    "V": "values of a sensor count, 0 to 65,535",
    "S": "samples: bands in the order of a stored file",
    "D": "features of a network",
    "J": "plane waves",
    "I": "rows of the nodes of a pair of scenes",
    "L": "columns of the nodes of a pair of scenes",
    "Z": "bins of a value, or places of a grid of values",
    "O": "shares of a grid",
}
"""Meaning of each axis letter."""
