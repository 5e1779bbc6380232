#!/usr/bin/env bash
# checkov's policies over the Dockerfiles and over all that the overlays become.
#
#   deploy/checkov.sh [CHECKOV [FOLDER_OF_OVERLAYS]]
#
# `make checkov` installs it first, in an environment of its own. kubectl and a python3 with PyYAML
# must be on PATH. Exit code: 1 where a policy is not kept; checkov.yaml says which do not apply.
set -euo pipefail

checkov="${1:-checkov}"
here="$(cd "$(dirname "$0")" && pwd)"
overlays="${2:-$here/kubernetes/overlays}"
built="$(mktemp -d)"
trap 'rm -rf "$built"' EXIT
for path in "$overlays"/*/*/kustomization.yaml; do
    overlay="$(dirname "$path")"
    name="${overlay#"$overlays"/}"
    kubectl kustomize "$overlay" | python3 "$here/pods.py" > "$built/${name//\//-}.yaml"
done
cp "$here"/docker/Dockerfile.* "$built"
"$checkov" --config-file "$here/checkov.yaml" --directory "$built"
