#!/bin/sh
# Make the lock files anew, with hashes, for Python 3.11 on Linux: `sh cluster/docker/lock.sh` (needs `pip install uv`).
set -eu
cd "$(dirname "$0")/../.."
lock() {
    out=cluster/docker/$1.lock
    shift
    uv pip compile "$@" --constraint .ci/constraints.txt --python-version 3.11 \
        --python-platform x86_64-unknown-linux-gnu --generate-hashes --no-header --no-annotate --quiet --output-file "$out"
}
lock cpu pyproject.toml --extra serve --extra batch --extra heic
lock gpu pyproject.toml --extra serve --extra batch --extra heic --extra gpu --extra train
lock mlflow cluster/docker/mlflow.in
