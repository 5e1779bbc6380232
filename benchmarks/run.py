"""`make bench`: every benchmark, saved."""

import subprocess
import sys

NAMES = ("kahramanmaras", "real_runs", "scale")

if __name__ == "__main__":
    for name in NAMES:
        subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", "--save", *sys.argv[1:]], check=True
        )
