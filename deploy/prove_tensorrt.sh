#!/usr/bin/env bash
# Proves the TensorRT and CUDA engines on a machine that has an NVIDIA GPU.
#
#   deploy/prove_tensorrt.sh [FOLDER]
#
# Installs the project with its `tensorrt` extra into FOLDER/venv (default: scratch/prove), builds
# plans for every shipped bundle in every precision it has, of two batches and portable, holds them
# against the bundle's golden batch, times them and the other runtimes, runs the contract tests on
# the GPU, and writes all of it to FOLDER/tensorrt.json, which is also printed. Needs: bash, python3.11 or later, an NVIDIA driver (R590 or later for CUDA 13).
# Exit code: 0 if everything held, 1 if something did not, 2 if it cannot be tried here.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="${1:-$here/scratch/prove}"
python="${PYTHON:-python3}"

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi --list-gpus | grep -q GPU; then
    echo "no NVIDIA GPU here: nvidia-smi lists none" >&2
    exit 2
fi
mkdir -p "$out/steps"
out="$(cd "$out" && pwd)"
rm -f "$out"/steps/*

# A step that fails is noted and the next one is tried: one run says all there is to say.
step() { # NAME COMMAND...: runs it, keeps its output, result and seconds
    local name="$1" began code=0
    shift
    began="$(date +%s)"
    echo "== $name: $*" >&2
    "$@" </dev/null >"$out/steps/$name.out" 2>"$out/steps/$name.err" || code=$?
    printf '{"code": %d, "seconds": %d}\n' "$code" "$(($(date +%s) - began))" \
        >"$out/steps/$name.json"
    if [ "$code" -ne 0 ]; then
        echo "   failed with $code; see $out/steps/$name.err" >&2
    fi
}

if [ ! -x "$out/venv/bin/python" ]; then
    "$python" -m venv "$out/venv"
fi
# torch from the index it is published on: its ordinary Linux wheel is the CUDA build.
step install "$out/venv/bin/python" -m pip install --quiet \
    -c "$here/constraints.txt" -e "${here}[tensorrt,train,test,ray]"

export PATH="$out/venv/bin:$PATH"
export QUAKESTREAM_ENGINES="$out/engines"
mkdir -p "$QUAKESTREAM_ENGINES" "$out/portable"
chmod 700 "$QUAKESTREAM_ENGINES" "$out/portable"
cd "$here"

step versions python -c '
import json, platform, sys
import tensorrt, torch
gpu = torch.cuda.get_device_properties(0)
json.dump({
    "python": platform.python_version(), "tensorrt": tensorrt.__version__,
    "torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu.name,
    "capability": f"{gpu.major}.{gpu.minor}", "memory_gb": round(gpu.total_memory / 1e9, 1),
}, sys.stdout)'
step driver nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv

# A line for each bundle and precision: bundle, runtime, precision, the batch that suits a GPU.
plans="$(python -c '
from quakestream.bundles import load_bundle, shipped_names
from quakestream.engines import RUNTIMES
from quakestream.engines.tensorrt import PlanRequest, with_batch
for name in shipped_names():
    bundle = load_bundle(name)
    for runtime in RUNTIMES.values():
        if not runtime.prebuilt:
            continue
        if runtime.precision != "int8" or bundle.file("model.int8.onnx") is not None:
            batch = with_batch(PlanRequest(), bundle).batch
            print(name, runtime.name, runtime.precision, batch)')"
while read -r bundle runtime precision batch; do
    few="$((batch / 4))"
    build=(quakestream engine build "$bundle" --precision "$precision" --json)
    step "build-$bundle-$precision" "${build[@]}"
    step "build-$bundle-$precision-$few" "${build[@]}" --batch "$few"
    step "check-$bundle-$precision" quakestream engine check "$bundle" --runtime "$runtime" --json
    step "bench-$bundle-$precision" quakestream engine bench "$bundle" --runtime "$runtime" \
        --batch "$few" --batch "$batch" --json
    # Where there is no plan for this very GPU, the portable one is what opens.
    portable=(env "QUAKESTREAM_ENGINES=$out/portable")
    step "build-$bundle-$precision-portable" "${portable[@]}" "${build[@]}" --portable
    step "check-$bundle-$precision-portable" "${portable[@]}" \
        quakestream engine check "$bundle" --runtime "$runtime" --json
done <<<"$plans"
while read -r bundle; do
    step "bench-$bundle" quakestream engine bench "$bundle" --json
done < <(cut -d' ' -f1 <<<"$plans" | sort -u)
step contract python -m pytest -q -n0 -p no:cacheprovider \
    tests/contracts/test_gpu_engines.py tests/contracts/test_engines.py \
    tests/unit/test_engine_tensorrt.py tests/unit/test_onnx_operators.py

python - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

out = Path(sys.argv[1])
steps = {}
for path in sorted((out / "steps").glob("*.json")):
    step = json.loads(path.read_text())
    said = path.with_suffix(".out").read_text()
    try:
        step["result"] = json.loads(said)
    except ValueError:
        step["result"] = said.strip().splitlines()[-5:]
    if step["code"]:
        step["error"] = path.with_suffix(".err").read_text().strip().splitlines()[-10:]
    steps[path.stem] = step
held = all(step["code"] == 0 for step in steps.values())
report = {"name": "tensorrt", "held": held, "steps": steps}
(out / "tensorrt.json").write_text(json.dumps(report, indent=2) + "\n")
print(json.dumps(report, indent=2))
sys.exit(0 if held else 1)
PYTHON
