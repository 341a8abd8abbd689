#!/bin/sh
# install.sh LOCK VENV [WHEEL]: make an environment of exactly the locked packages, and put Cutray into it.
# The Dockerfile runs this, and so does tests/fault/test_image.py without any container.
set -eu
[ -x "$2/bin/python" ] || python3 -m venv "$2"
"$2/bin/python" -m pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: --requirement "$1"
[ -z "${3:-}" ] || "$2/bin/python" -m pip install --no-cache-dir --no-deps --no-index "$3"
"$2/bin/python" -m pip check
