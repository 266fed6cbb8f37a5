#!/bin/sh
# Gets NVIDIA's perf_analyzer, and the two libraries that it lacks, into build/perf_analyzer. Run in the checkout's root;
# PYTHON=… names another Python than that of .venv. Needs apt-get and dpkg (Debian, Ubuntu), and no rights of root.
set -eu
python=$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")
mkdir -p build/perf_analyzer/lib
cd build/perf_analyzer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip download --quiet --no-deps --dest "$work" tritonclient==2.50.0 nvidia-cuda-runtime-cu12==12.9.79
(cd "$work" && apt-get download --quiet libb64-0d)
for wheel in "$work"/*.whl; do "$python" -m zipfile --extract "$wheel" "$work/wheels"; done
dpkg --extract "$work"/libb64-0d_*.deb "$work/deb"
cp "$work/wheels/tritonclient-2.50.0.data/data/bin/perf_analyzer" .
cp "$work/wheels/nvidia/cuda_runtime/lib/libcudart.so.12" "$work"/deb/usr/lib/*/libb64.so.0d lib/
chmod +x perf_analyzer
LD_LIBRARY_PATH=lib ./perf_analyzer --version
