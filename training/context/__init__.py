"""Pair bundles that see more ground: a pixel network and what a frozen backbone says around it.

The pixel network of a shipped pair bundle sees 8 m around a pixel. `python -m training.context`
adds the features of EfficientNet-Lite0 (ImageNet) over a square of 48 m around it, before
and after the event, through a linear head that is fitted on labelled buildings of several cities.
"""

CONTEXT = "context"
"""Key of `training` in the manifest of a bundle whose head has seen real cities."""
