#!/bin/sh
# Deformable attention on this machine's NVIDIA device: correctness and times into perf/RESULTS.md.
# Needs `make setup` and a driver; takes about a minute, and some more at the first call, which compiles the kernel.
set -e
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m ovd_bench.perf.gpu "$@"
