#!/bin/sh
# Name everything that `make env` needs and the machine lacks, in one line, before anything is downloaded.
#   scripts/check_prerequisites.sh [PYTHON [GPU]]
python=${1:-python3.11}
gpu=${2:-0}
missing=
packages=

lacks() { # what it is, the Debian or Ubuntu package that brings it
    missing="${missing:+$missing, }$1"
    packages="${packages:+$packages }$2"
}

# One start of Python answers everything about it. Horovod's extension is compiled against the headers.
about=$("$python" - 2>/dev/null <<'PYTHON'
import importlib.util, os, sys, sysconfig
print(*sys.version_info[:2], sep=".")
print("venv" if importlib.util.find_spec("ensurepip") else "")
print("headers" if os.path.exists(sysconfig.get_path("include") + "/Python.h") else "")
PYTHON
)
case $about in
3.11*)
    case $about in *venv*) ;; *) lacks "Python's venv module" python3.11-venv ;; esac
    case $about in *headers*) ;; *) lacks "Python's C headers" python3.11-dev ;; esac ;;
*) lacks "Python 3.11 (tried: $python)" "python3.11 python3.11-venv python3.11-dev" ;;
esac

command -v "${CXX:-c++}" >/dev/null || lacks "a C++ compiler" g++

if [ "$gpu" = 1 ]; then # the same major version as torch's CUDA; NVIDIA's own apt repository has it
    command -v nvcc >/dev/null || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ] ||
        lacks "CUDA 13's compiler, nvcc (looked in the PATH and CUDA_HOME)" "cuda-toolkit-13-0 libnccl-dev"
fi

# Spark prefers JAVA_HOME to the PATH, so we look where it will. It supports 17 and 21; newer ones break Hadoop.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
if [ "${found:-0}" -lt 17 ] || [ "$found" -gt 21 ]; then
    lacks "Java 17 or 21 (found: ${found:-none}; looked at: $java)" openjdk-17-jdk-headless
fi

[ -z "$missing" ] && exit 0
echo "missing: $missing. To install: sudo apt-get install $packages" >&2
exit 1
