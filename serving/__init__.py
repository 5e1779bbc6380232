"""The HTTP service: areas mapped and chips scored on request, over the stages of `quakestream`.

`serve run serving.app:build` starts it on a Ray cluster, `quakestream serve` on one machine.
docs/service.md describes it.
"""
