"""Outlines out of points and boxes with Segment Anything (`training.networks.sam`).

    python -m training.sam IMAGE --prompts BOXES.geojson --weights sam_vit_b.pth -o OUT.geojson

The published weights have never been run here. Names, shapes and counts of the network are
theirs; everything else was tried with a tiny network that was trained on generated towns.
"""
