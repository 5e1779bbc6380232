"""`make bench`: every benchmark, saved, and the tables made of them."""

import subprocess
import sys

NAMES = (
    "read",
    "engines",
    "end_to_end",
    "peers",
    "capacity",
    "cluster",
    "scale",
    "training",
    "kahramanmaras",
    "packing",
    "field_points",
    "real_runs",
    "prior",
    "service",
    "spot_checks",
)

if __name__ == "__main__":
    for name in NAMES:
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--save", *sys.argv[1:]], check=True
        )
    subprocess.run([sys.executable, "-m", "benchmarks.tables"], check=True)
