"""Which runtime `auto` takes, and what it says of those it does not take."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cropping import crop_world, edit

from quakestream.bundles import Bundle, load_bundle
from quakestream.config import open_run
from quakestream.engines import RUNTIMES, choose
from quakestream.engines.choice import (
    Machine,
    int8_gated,
    keep_rates,
    kept_rates,
    precision_of,
    this_machine,
)
from quakestream.engines.kept import FOLDER_VARIABLE
from quakestream.errors import EngineError
from quakestream.pipeline.plan import make_plan
from quakestream.testing import write_building_bundle, write_hazard_bundle

PLAIN = Machine(cpu_flags=frozenset(), gpu=False, cores=2)
VNNI = replace(PLAIN, cpu_flags=frozenset({"avx512_vnni"}))
NARROW = replace(PLAIN, cpu_flags=frozenset({"avx512_bf16"}))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures kept on the developer's machine have no say here."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "engines"))


@pytest.fixture
def bundle() -> Bundle:
    pytest.importorskip("openvino")
    return load_bundle("damage-synthetic")


def test_eight_bits_are_taken_where_the_cpu_has_them_and_they_were_held_to_their_loss(
    bundle: Bundle,
) -> None:
    assert choose(bundle, machine=VNNI).runtime == "openvino-int8"
    figures = {**bundle.spec.metrics["int8"], "drop": 0.006}
    lossy = replace(bundle, spec=replace(bundle.spec, metrics={"int8": figures}))
    assert not int8_gated(lossy.spec)
    chosen = choose(lossy, machine=VNNI)
    assert chosen.runtime == "openvino"
    assert "openvino-int8 (its model.int8.onnx was not held against float32)" in chosen.notes[0]


def test_what_was_passed_over_is_said_with_why(bundle: Bundle) -> None:
    chosen = choose(bundle, machine=PLAIN)
    assert chosen.runtime == "openvino"
    assert chosen.notes == (
        "runtime openvino chosen; passed over: openvino-int8 (this CPU has no VNNI), "
        "openvino-bf16 (this CPU has no bfloat16)",
    )
    on_gpu = choose(bundle, machine=replace(PLAIN, gpu=True)).notes[0]
    assert "torch (the bundle has no model.pt2)" in on_gpu


def test_the_same_machine_chooses_alike(bundle: Bundle) -> None:
    here = this_machine()
    assert here == this_machine()
    assert {choose(bundle).runtime for _ in range(2)} <= set(RUNTIMES)
    assert len({choose(bundle).runtime for _ in range(2)}) == 1


def test_half_precision_that_rounding_moves_is_passed_over(tmp_path: Path) -> None:
    """A mean over a crop: what rounding does to the scene's mean, it does to the score."""
    pytest.importorskip("openvino")
    if not this_machine().cpu_flags & {"avx512_bf16", "amx_bf16"}:
        pytest.skip("this CPU has no bfloat16")
    folder = write_building_bundle(tmp_path / "b")
    chosen = choose(load_bundle(str(folder)), machine=NARROW)
    assert chosen.runtime == "openvino"
    assert "rounding moves logits" in chosen.notes[0]
    assert choose(load_bundle("grades-synthetic"), machine=NARROW).runtime == "openvino-bf16"


def test_a_runtime_that_reads_the_graph_otherwise_is_passed_over() -> None:
    pytest.importorskip("openvino")
    chosen = choose(load_bundle("hazard-kahramanmaras-2023"), machine=PLAIN)
    assert chosen.runtime == "onnxruntime"
    assert "is not the same model as its reference" in chosen.notes[0]


def test_without_openvino_the_core_install_scores(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n == "openvino" or n.startswith("openvino.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    chosen = choose(bundle, machine=VNNI)
    assert chosen.runtime == "onnxruntime"
    assert "pip install 'quakestream[openvino]'" in chosen.notes[0]


def test_a_runtime_by_name_is_refused_if_it_is_another_model(tmp_path: Path) -> None:
    bundle = load_bundle(str(write_hazard_bundle(tmp_path / "b")))
    golden = {**bundle.golden, "logits": bundle.golden["logits"] + np.float32([[1.0, -1.0]])}
    other = replace(bundle)
    other.__dict__["golden"] = golden
    with pytest.raises(EngineError, match="is not the same model as its reference") as caught:
        choose(other, runtime="onnxruntime")
    assert "\n" not in str(caught.value)


def test_kept_figures_decide(bundle: Bundle, tmp_path: Path) -> None:
    path = keep_rates(bundle, {"openvino": 3.0, "onnxruntime": 9.0, "no-such": 99.0}, VNNI)
    assert kept_rates(bundle, VNNI) == {"openvino": 3.0, "onnxruntime": 9.0}
    assert choose(bundle, machine=VNNI).runtime == "onnxruntime"
    assert choose(bundle, machine=PLAIN).runtime == "openvino", "figures of another machine"
    path.write_text("[not, rates")
    assert choose(bundle, machine=VNNI).runtime == "openvino-int8"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_a_precision(runtime: str) -> None:
    expected = runtime.rpartition("-")[2]
    found = precision_of(runtime)
    assert found == expected or found in ("fp32", "bf16")


def test_the_plan_names_the_runtime_that_will_run(tmp_path: Path) -> None:
    crop_world(tmp_path)
    edit(tmp_path / "run.yaml", lambda content: content["execution"].update(runtime="auto"))
    plans = [make_plan(open_run(tmp_path / "run.yaml")) for _ in range(2)]
    named, again = (plan.run.profile_settings.runtime for plan in plans)
    assert named == again
    assert named in RUNTIMES
    assert any(f"runtime {named} chosen" in note for note in plans[0].notes)
    assert plans[0].seconds_per_window > 0
