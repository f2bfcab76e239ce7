#!/bin/sh
# Make a virtual environment from nothing but a lock file with hashes.
#   scripts/make_venv.sh FOLDER LOCK [PYTHON]
set -eu
folder=$1 lock=$2 python=${3:-python3.11}

# From nothing, always: what an older lock or a hand installed must not survive.
rm -rf "$folder"
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    --requirement requirements/bootstrap.txt
# The lock names everything there is to install, so nothing is resolved (--no-deps).
# Bytecode is compiled here, on all cores: where PYTHONDONTWRITEBYTECODE is set, nobody else would ever do it,
# and every Spark worker would spend seconds on importing torch.
"$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --require-hashes --no-deps --compile-bytecode \
    --requirement "$lock"
