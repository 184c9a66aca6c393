#!/usr/bin/env bash
# Fetches what benchmarks/gpu.py needs beyond JAX, Flax, Optax, Orbax and
# PyTorch, as wheels for Python 3.12 on x86-64 Linux: for a machine with a GPU
# and without a network. Run with Python 3.12, whose versions are meant.
#
#   PYTHON=python3.12 benchmarks/gpu_wheels.sh FOLDER
set -euo pipefail
folder=${1:?say where to put the wheels}
python=${PYTHON:-python3.12}
constraints=$(dirname "$0")/../.ci/constraints.txt
mkdir -p "$folder"
platforms=()
for glibc in 39 35 34 31 28 27 24 17 12 5; do
  platforms+=(--platform "manylinux_2_${glibc}_x86_64")
done
"$python" -m pip download --quiet --no-deps --only-binary=:all: \
  --python-version 3.12 --implementation cp "${platforms[@]}" \
  --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
  --constraint "$constraints" --dest "$folder" \
  array_record attrs certifi cffi charset-normalizer dm-tree docstring_parser \
  espeakng-loader etils flax fsspec googleapis-common-protos grain idna \
  immutabledict importlib_resources miniaudio ml_collections optax safetensors \
  orbax-checkpoint portpicker pycparser requests simple-parsing six soundfile \
  soxr tensorboardX \
  tensorflow-datasets tensorflow-metadata termcolor toml tqdm urllib3 wrapt zipp
# Its source has no wheel of its own and no compiled part.
"$python" -m pip wheel --quiet --no-deps --constraint "$constraints" \
  --wheel-dir "$folder" promise
du -sh "$folder"
