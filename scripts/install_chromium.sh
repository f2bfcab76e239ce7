#!/bin/sh
# A browser for the tests that look at the report, from Debian's package; without one they are skipped.
set -eu
command -v chromium >/dev/null && exit 0
echo "environment: installing Debian's chromium for the tests" >&2
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! { $as_root apt-get update -qq &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium >/dev/null; }; then
    echo "no chromium: the tests that look at the report with a browser are skipped" >&2
fi
