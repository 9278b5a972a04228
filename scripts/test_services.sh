#!/usr/bin/env bash
# Put on this machine what the tests need beside Python: a real Redis, a real Postgres and a real browser, started by
# the tests that use them, and OpenSSL's command, which makes their certificates.
set -euo pipefail
missing=()
command -v redis-server > /dev/null || missing+=(redis-server)
compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || missing+=(postgresql)
command -v openssl > /dev/null || missing+=(openssl)
command -v chromium > /dev/null || command -v chromium-browser > /dev/null || command -v google-chrome > /dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
echo "Installing ${missing[*]} for the tests …"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update --quiet=2
"${as_root[@]}" apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}" > /dev/null
