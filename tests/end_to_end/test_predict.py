"""/predict: the probabilities of the engine, and wrong chips as problem documents."""

import asyncio
import json
import math
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.bundles import load_bundle
from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import (
    write_building_bundle,
    write_hazard_bundle,
    write_stand_in_bundle,
)
from serving.predictor import Chip, OpenBundle
from tests.helpers.calibrating import calibrate_bundle
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


def test_a_calibrated_bundle_answers_p_at_a_share(
    with_service: Callable[..., Any], bundles: dict[str, str], tmp_path: Path
) -> None:
    """The calibration of the helper says: log-odds are 1 + 2 logit(score) at a share of 0.5."""
    crops = Path(shutil.copytree(bundles["crops"], tmp_path / "calibrated"))
    calibrate_bundle(crops)
    files = {epoch: (epoch, png(pixels)) for epoch, pixels in chip_pair(3).items()}

    async def use(service: Service) -> list[dict[str, Any]]:
        asked = [{}, {"share": "0.02"}, {"share": "1"}, {"share": "nan"}]
        answers = [await service.post("/predict", files=files, data=data) for data in asked]
        assert [a.status_code for a in answers] == [200, 200, 400, 400], answers[1].text
        plain = {"bundle": bundles["crops"], "share": "0.1"}
        assert "no calibration" in (await service.post("/predict", files=files, data=plain)).text
        shown = (await service.get("/bundles")).json()["bundles"]
        assert [b["share"] for b in shown] == [0.5, None]
        return [a.json() for a in answers[:2]]

    half, rare = with_service(use, bundles=[str(crops), bundles["crops"]])
    score = half["score"]
    assert score == half["probabilities"]["destroyed"] == rare["score"]
    log_odds = 1 + 2 * math.log(score / (1 - score))
    assert (half["share"], rare["share"]) == (0.5, 0.02)
    assert half["p"] == pytest.approx(1 / (1 + math.exp(-log_odds)))
    assert rare["p"] == pytest.approx(1 / (1 + math.exp(-log_odds - math.log(0.02 / 0.98))))


def test_a_bundle_that_scores_pixels_answers_for_a_footprint(
    with_service: Callable[..., Any], tmp_path: Path
) -> None:
    """The right half of the chip has changed: the score is that of the pixels of the outline."""
    folder = calibrate_bundle(write_threshold_bundle(tmp_path / "pixels"))
    pre = np.full((128, 128, 3), 100, np.uint8)
    pre[::2] = 110
    post = pre.copy()
    post[:, 64:] = 255
    files = {"pre": ("pre", png(pre)), "post": ("post", png(post))}

    async def use(service: Service) -> list[httpx.Response]:
        rings: list[Any] = [
            *("", [[20, 20], [40, 20], [40, 40], [20, 40]]),
            [[80, 20], [100, 20], [100, 40], [80, 40]],
            *([[2, 2], [9, 2], [9, 9]], [[0, 0], [1e300, 0], [0, 9]], [[1, 1], [2, 2]], "[", 7),
            [[20, 20], [40, 40], [40, 20], [20, 40]],
        ]
        texts = [ring if ring in ("", "[") else json.dumps(ring) for ring in rings]
        return [
            await service.post("/predict", files=files, data={"footprint": text}) for text in texts
        ]

    answers = with_service(use, bundles=[str(folder)], runtime="threshold")
    assert [a.status_code for a in answers] == [200] * 3 + [400] * 6
    whole, left, right = (a.json() for a in answers[:3])
    assert (whole["p"], whole["share"]) == (None, None)
    assert left["score"] < whole["score"] < right["score"]
    assert left["p"] < 0.5 < right["p"]
    assert whole["score"] == pytest.approx((left["score"] + right["score"]) / 2, abs=0.05)
    assert "no pixel that is scored" in answers[3].text


def test_chips_beyond_the_queue_are_refused_at_once(
    with_service: Callable[..., Any], tmp_path: Path
) -> None:
    """A client that is refused does not wait for those that are answered."""
    slow = tmp_path / "slow"
    write_stand_in_bundle(slow, window_s=0.1, window_px=64)
    pair = {epoch: (epoch, png(np.zeros((64, 64, 3), np.uint8))) for epoch in ("pre", "post")}

    async def use(service: Service) -> tuple[list[tuple[float, httpx.Response]], str]:
        async def send() -> tuple[float, httpx.Response]:
            answer = await service.post("/predict", files=pair)
            return time.perf_counter() - began, answer

        await service.post("/predict", files=pair)  # opens the engine
        began = time.perf_counter()
        found = await asyncio.gather(*(send() for _ in range(8)))
        return found, (await service.get("/metrics", "reader")).text

    found, metrics = with_service(
        use, bundles=[str(slow)], runtime="stand-in", batching={"size": 1, "queued": 2}
    )
    refused = [(took, answer) for took, answer in found if answer.status_code == 503]
    assert {answer.status_code for _, answer in found} == {200, 503}
    assert len(refused) >= 3
    answered_s = sorted(took for took, answer in found if answer.status_code == 200)
    assert max(took for took, _ in refused) < answered_s[-1]
    for _, answer in refused:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["type"] == "busy"
        assert answer.json()["detail"] == "the queue of chips is full: at most 2"
        assert int(answer.headers["retry-after"]) == 1
    pattern = rf'quakestream_chips_total{{bundle="{slow}",outcome="(\w+)"}} (\d+)'
    counted = {what: int(number) for what, number in re.findall(pattern, metrics)}
    assert counted == {"answered": 1 + len(answered_s), "refused": len(refused)}


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
