#!/usr/bin/env bash
# Submits a run to a Ray cluster, shows its log, and ends as the run does.
#
#   deploy/submit.sh http://HEAD:8265 s3://bucket/run.yaml [more options of `quakestream map`]
#
# The cluster's token comes from RAY_AUTH_TOKEN, from the file RAY_AUTH_TOKEN_PATH, or from
# ~/.ray/auth_token. Ctrl-C ends the log and not the run; `ray job stop` ends the run. Submitted
# again, a run goes on where it was.
#
# Exit code: 0 the map is made; 1 the job did not end well, of which its last lines speak; 2 this
# command is wrong; 3 the cluster cannot be reached or refuses the token.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 http://HEAD:8265 RUN_FILE [options of quakestream map]" >&2
    exit 2
fi
address="$1"
run="$2"
shift 2
python="${PYTHON:-python3}"
export RAY_AUTH_MODE=token

# Ray says all this in a traceback; here it is one line.
"$python" - "$address" <<'PYTHON'
import os, pathlib, sys, urllib.error, urllib.request

address = sys.argv[1].rstrip("/")
path = pathlib.Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()


def refuse(what: str) -> None:
    print(f"error: {address}: {what}", file=sys.stderr)
    sys.exit(3)


remedy = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file that holds it"
try:
    token = os.environ.get("RAY_AUTH_TOKEN") or path.read_text().strip()
except OSError:
    refuse(f"no token for the cluster; {remedy}")
if not address.startswith(("http://", "https://")):
    refuse("not the address of a dashboard: expected http://HEAD:8265")
request = urllib.request.Request(f"{address}/api/jobs/")
request.add_header("Authorization", f"Bearer {token}")
try:
    urllib.request.urlopen(request, timeout=15).close()
except urllib.error.HTTPError as error:
    if error.code in (401, 403):
        refuse(f"the cluster refuses the token ({error.code}); {remedy}")
    refuse(f"the dashboard answers {error.code}; it needs ray[default]")
except OSError as error:
    refuse(f"no answer ({getattr(error, 'reason', error)}); forward the port, or check the head")
PYTHON

said="$(mktemp)"
trap 'rm -f "$said"' EXIT
for _ in $(seq 30); do
    code=0
    "$python" -m ray.scripts.scripts job submit --address "$address" -- \
        quakestream map "$run" --address auto "$@" 2> >(tee "$said" >&2) || code=$?
    # Just after its start, a head answers before an agent takes jobs.
    if [ "$code" -eq 0 ] || ! grep -q "No available agent" "$said"; then
        break
    fi
    sleep 2
done
exit "$code"
