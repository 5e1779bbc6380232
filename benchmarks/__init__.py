"""One file per question. Each prints one JSON object; `make bench` keeps them in results/."""
