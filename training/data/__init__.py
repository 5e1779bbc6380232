"""Labelled image pairs, splits that do not leak, chips and their augmentation."""
