"""Labels of the event: a bundle of this event out of a few hundred labels, in minutes.

Nothing here imports torch, but for `export_backbone`, which made the file of the backbone.
"""
