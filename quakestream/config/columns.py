"""Columns of buildings.parquet, which a hazard layer of the same name would overwrite."""

RESERVED = frozenset(
    (
        *("building_id", "geometry", "bbox", "status", "reason", "damage", "damage_label"),
        "checked",
        *("score", "share", "share_low", "share_high", "share_area", "evidence"),
        *("confidence", "uncertainty", "valid_fraction", "pre_post_difference"),
        *("scene_post", "scene_pre", "acquired_post", "views", "shift_m", "shift_quality"),
        *("hazard_missing", "model", "model_digest", "engine", "run_id"),
        *("landslide_id", "landslide_distance_m"),
    )
)
"""Columns of ShakeMap and VS30 are left out: a layer may take the place of a missing file."""
