"""Protocols on landslide chips: benchmark, sensor, label and domain axes, trust, explanations."""
