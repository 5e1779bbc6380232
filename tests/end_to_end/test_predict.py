"""/predict: the probabilities of the engine, and wrong chips as problem documents."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.bundles import load_bundle
from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_building_bundle, write_hazard_bundle
from serving.predictor import Chip, OpenBundle
from tests.helpers.running import write_threshold_bundle
from tests.helpers.services import (
    Service,
    npy,
    png,
    running_service,
    service_settings,
    write_tokens,
)

T = TypeVar("T")
SIDE = 48


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bundle of crops with hazard values, and one of hazard values alone, by what they take."""
    folder = tmp_path_factory.mktemp("bundles")
    crops = write_building_bundle(folder / "crops", window_px=SIDE, hazard=("mmi", "pga_g"))
    return {"crops": str(crops), "hazard": str(write_hazard_bundle(folder / "hazard"))}


@pytest.fixture
def with_service(
    tmp_path: Path, town: SyntheticEarthquake, bundles: dict[str, str]
) -> Callable[..., Any]:
    def run(use: Callable[[Service], Awaitable[T]], **changed: Any) -> T:
        tokens = write_tokens(tmp_path)
        threshold = write_threshold_bundle(tmp_path / "bundle")
        content = {"bundles": list(bundles.values()), "runtime": "onnxruntime", **changed}
        settings = service_settings(tmp_path, town, threshold, tokens, **content)

        async def main() -> T:
            async with running_service(settings, tokens) as service:
                return await use(service)

        return asyncio.run(main())

    return run


def chip_pair(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {e: rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for e in ("pre", "post")}


def test_probabilities_are_those_of_the_engine(
    with_service: Callable[..., Any], bundles: dict[str, str]
) -> None:
    pair = chip_pair(1)
    images = {epoch: np.moveaxis(pixels, 2, 0) for epoch, pixels in pair.items()}
    opened = OpenBundle(bundles["crops"], "onnxruntime")
    (expected,) = opened.predict([Chip(images=images, hazard={"pga_g": 0.4})])

    async def use(service: Service) -> list[dict[str, Any]]:
        answers = []
        for encode in (png, npy):
            files = {epoch: (epoch, encode(pixels)) for epoch, pixels in pair.items()}
            data = {"bundle": bundles["crops"], "hazard": json.dumps({"pga_g": 0.4})}
            answer = await service.post("/predict", "reader", files=files, data=data)
            assert answer.status_code == 200, answer.text
            answers.append(answer.json())
        rows = await service.post(
            "/predict", data={"bundle": bundles["hazard"], "hazard": '{"mmi": 8, "pga_g": 0.5}'}
        )
        answers.append(rows.json())
        assert (await service.client.get("/healthz")).json() == {"status": "ok"}
        return answers

    first, second, rows = with_service(use)
    assert first == second
    assert first["probabilities"] == pytest.approx(expected.probabilities)
    assert first["digest"] == load_bundle(bundles["crops"]).digest
    assert sum(first["probabilities"].values()) == pytest.approx(1.0)
    assert first["statistics"] == "chip"
    assert rows["probabilities"]["destroyed"] > 0.3


def test_a_chip_does_not_depend_on_those_beside_it(bundles: dict[str, str]) -> None:
    opened = OpenBundle(bundles["crops"], "onnxruntime")
    chips = [
        Chip(images={e: np.moveaxis(p, 2, 0) for e, p in chip_pair(n).items()}, hazard={"mmi": n})
        for n in range(5)
    ]
    together = opened.predict(chips)
    alone = [opened.predict([chip])[0] for chip in chips]
    assert together == alone


@pytest.mark.parametrize(
    ("files", "data", "says"),
    [
        ({"post": (SIDE, SIDE)}, {}, "other images"),
        ({}, {}, "other images"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, 50)}, {}, "another size"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, SIDE)}, {"hazard": "x"}, "not hazard values"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, SIDE)}, {"hazard": "[1]"}, "not hazard values"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, SIDE)}, {"hazard": '{"mmi": true}'}, "not hazard"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, SIDE)}, {"hazard": '{"depth": 3}'}, "no such hazard"),
        ({"pre": (SIDE, SIDE), "post": (SIDE, SIDE)}, {"bundle": "/etc/passwd"}, "no such bundle"),
        ({"pre": (SIDE, SIDE), "post": (2000, 2000)}, {}, "too many pixels"),
    ],
)
def test_wrong_chips(
    with_service: Callable[..., Any],
    files: dict[str, tuple[int, int]],
    data: dict[str, str],
    says: str,
) -> None:
    async def use(service: Service) -> None:
        uploads = {n: (n, png(np.zeros((*size, 3), np.uint8))) for n, size in files.items()}
        answer = await service.post("/predict", files=uploads, data=data)
        assert answer.status_code == 400, answer.text
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert says in answer.text

    with_service(use, limits={"chip_px": 1_000_000})
