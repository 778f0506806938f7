#!/usr/bin/env bash
# test/try.sh BIN: the first minute with Tare, on a private engine.
set -euo pipefail
bin=$(realpath "$1")

if [ "${2:-}" != inside ]; then
	exec "$(dirname "$0")/private.sh" "$bin" "$0" "$bin" inside
fi

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

say tare run --rm tare/hello
say tare run --rm --rootfs / /bin/sh -c 'echo "a container on the root directory of $(. /etc/os-release; echo "$PRETTY_NAME"), as process $$ on $(hostname)"'
say tare run -d --name sleeper --rootfs / sleep 60
say tare ps
say tare exec sleeper cat /proc/1/comm
say tare rm -f sleeper
echo
echo "All of it is taken away again."
