#!/bin/sh
# Deformable attention on this machine's NVIDIA device: correctness and times into perf/RESULTS.md.
# Needs `make setup` and a driver; takes about a minute, and longer the first time, when the kernel is compiled.
set -e
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m ovd_bench.perf.gpu "$@"
