#!/bin/sh
# The counted runs: kills at random moments under a workload. Writes
# docs/soak.md with what was really done. TARE_SOAK_ENGINE, TARE_SOAK_KEEPER and
# TARE_SOAK_BOTH set the numbers of rounds, TARE_SOAK_MINUTES a bound of time.
set -u
cd "$(dirname "$0")/.."
[ -n "${TARE_SOAK_MINUTES:-}" ] && export TARE_SOAK_UNTIL=$(($(date +%s) + TARE_SOAK_MINUTES * 60))
log=$(mktemp)
trap 'rm -f "$log"' EXIT
CGO_ENABLED=0 go test -tags "root failpoint soak" -run '^TestSoak$' -v -timeout 3h ./test/crash >"$log" 2>&1
code=$?
grep -E '^ +--- FAIL|^--- FAIL|^FAIL|_test.go' "$log" | head -40
grep -q '^SOAK ' "$log" || { tail -40 "$log"; exit 1; }
{
	echo "# Counted runs"
	echo
	echo "\`make soak\` writes this file. In each round clients run, stop, remove, exec in and load, a process is"
	echo "killed at a random moment, the engine is started again, and it is checked that what was acknowledged is"
	echo "there, that the container in the background still runs, and that after a clean stop nothing is left:"
	echo "process, mount, link, nftables line, cgroup, file."
	echo
	echo "Date: $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), Linux $(uname -r)."
	echo
	echo "| what | rounds | bad | slowest return |"
	echo "|---|---|---|---|"
	sed -n 's/^SOAK //p' "$log" | sort
} >docs/soak.md
cat docs/soak.md
exit $code
