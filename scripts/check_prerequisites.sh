#!/bin/sh
# Name everything that `make env` needs and the machine lacks, in one line, before anything is downloaded.
#   scripts/check_prerequisites.sh [PYTHON]
python=${1:-python3.11}
missing=
packages=

lacks() { # what it is, the Debian or Ubuntu package that brings it
    missing="${missing:+$missing, }$1"
    packages="${packages:+$packages }$2"
}

if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    lacks "Python 3.11 (tried: $python)" "python3.11 python3.11-venv python3.11-dev"
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || lacks "Python's venv module" python3.11-venv
    # Horovod's extension is compiled against them.
    "$python" -c 'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
        lacks "Python's C headers" python3.11-dev
fi

command -v "${CXX:-c++}" >/dev/null || lacks "a C++ compiler" g++

# Spark prefers JAVA_HOME to the PATH, so we look where it will. It supports 17 and 21; newer ones break Hadoop.
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
if [ "${found:-0}" -lt 17 ] || [ "$found" -gt 21 ]; then
    lacks "Java 17 or 21 (found: ${found:-none}; looked at: $java)" openjdk-17-jdk-headless
fi

[ -z "$missing" ] && exit 0
echo "missing: $missing. To install: sudo apt-get install $packages" >&2
exit 1
