#!/usr/bin/env bash
# test/private.sh BIN [COMMAND...]: a private engine (own data and exec roots,
# own socket), which ends with this script and takes all it made away. Without
# a command it runs until Ctrl-C.
set -euo pipefail
bin=$(realpath "$1")
shift

root=$(mktemp -d /var/tmp/tare-XXXXXX)
exec_root=$(mktemp -d /run/tare-XXXXXX)
socket=$exec_root/tared.sock

start() {
	"$bin/tared" -H "unix://$socket" --data-root "$root" --exec-root "$exec_root" --log-level "${LOG_LEVEL:-warn}" &
	engine=$!
	for _ in $(seq 200); do
		[ -S "$socket" ] && "$bin/tare" -H "unix://$socket" version >/dev/null 2>&1 && return
		kill -0 "$engine" 2>/dev/null || break
		sleep 0.05
	done
	echo "tared did not start" >&2
	return 1
}

cleanup() {
	set +e
	trap - EXIT INT TERM
	# Whoever has killed the engine meanwhile has left its containers running.
	if "$bin/tare" -H "unix://$socket" version >/dev/null 2>&1 || start; then
		ids=$("$bin/tare" -H "unix://$socket" ps -aq 2>/dev/null)
		[ -z "$ids" ] || "$bin/tare" -H "unix://$socket" rm -f $ids >/dev/null
	fi
	kill -TERM "$engine" 2>/dev/null
	wait "$engine" 2>/dev/null
	"$bin/tared" --data-root "$root" --exec-root "$exec_root" --uninstall || echo "the engine's kernel objects could not all be removed" >&2
	rm -rf "$root" "$exec_root"
}
engine=
trap cleanup EXIT
trap 'exit 130' INT TERM

start

export DOCKER_HOST="unix://$socket" PATH="$bin:$PATH"
if [ $# -gt 0 ]; then
	"$@"
else
	echo "export DOCKER_HOST=$DOCKER_HOST"
	wait "$engine"
fi
