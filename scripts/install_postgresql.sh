#!/bin/sh
# The catalog's server for the tests, from Debian's package. The tests start and stop one of their own.
set -eu
for folder in /usr/lib/postgresql/*/bin; do
    [ -x "$folder/initdb" ] && exit 0
done
echo "environment: installing Debian's postgresql for the tests" >&2
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
# No server of the package's own: nobody asked for one.
settings=/etc/postgresql-common/createcluster.conf
if ! { $as_root apt-get update -qq && { [ -e $settings ] || { $as_root mkdir -p /etc/postgresql-common &&
    echo "create_main_cluster = false" | $as_root tee $settings >/dev/null; }; } &&
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends postgresql >/dev/null; }; then
    echo "missing: PostgreSQL's server. To install: sudo apt-get install postgresql" >&2
    exit 1
fi
