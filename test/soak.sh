#!/bin/sh
# The counted runs: kills at random moments under a workload, starts while names
# are swapped, execs, statistics, fuzzing. Writes docs/soak.md with what was
# really done. TARE_SOAK_ENGINE, …_KEEPER, …_BOTH, …_UPGRADE, …_PULL and …_CONNECT set
# the numbers of kills, …_TRAFFIC that of engines under traffic, …_POWER that of power
# cuts, TARE_SOAK_MINUTES a bound of their time, TARE_SOAK_RACES, TARE_SOAK_COPIES,
# TARE_SOAK_EXECS, TARE_SOAK_STATS, TARE_SOAK_CLIENTS, TARE_SOAK_BUILDS, TARE_SOAK_UNION and TARE_SOAK_SERVERS
# the other numbers, TARE_SOAK_THIN that of kills of an engine on a thin pool and of power cuts below one, in a machine of test/kernel,
# TARE_SOAK_FUZZ the time of each fuzz target.
set -u
cd "$(dirname "$0")/.."
[ -n "${TARE_SOAK_MINUTES:-}" ] && export TARE_SOAK_UNTIL=$(($(date +%s) + TARE_SOAK_MINUTES * 60))
log=$(mktemp)
trap 'rm -f "$log" "$log.fuzz" "$log.targets"' EXIT
export CGO_ENABLED=0
# -count=1: what the tests build and run is no part of what go remembers of them.
code=0
go test -count=1 -tags "root failpoint soak" -run '^TestSoak$' -v -timeout 3h ./test/crash >"$log" 2>&1 || code=1
TARE_SOAK_TRAFFIC="${TARE_SOAK_TRAFFIC:-20}" go test -count=1 -tags "root failpoint" -run '^TestTrafficOutlivesEngines$' -v -timeout 1h ./test/crash >>"$log" 2>&1 || code=1
TARE_SOAK_RACES="${TARE_SOAK_RACES:-1000}" go test -count=1 -tags root -run '^TestRaces$' -v -timeout 2h ./internal/runtime >>"$log" 2>&1 || code=1
TARE_SOAK_COPIES="${TARE_SOAK_COPIES:-3000}" go test -count=1 -tags root -run '^TestCopyRaces$' -v -timeout 2h ./internal/archive >>"$log" 2>&1 || code=1
TARE_SOAK_EXECS="${TARE_SOAK_EXECS:-10000}" TARE_SOAK_STATS="${TARE_SOAK_STATS:-1000}" TARE_SOAK_CLIENTS="${TARE_SOAK_CLIENTS:-1000}" \
	go test -count=1 -tags root -run '^(TestExecsLeaveNothing|TestStatsOfMany|TestManyClients)$' -v -timeout 2h ./test/probe >>"$log" 2>&1 || code=1
TARE_BUILDS="${TARE_SOAK_BUILDS:-50}" go test -count=1 -tags root -run '^TestBuildCacheStaysInBounds$' -v -timeout 1h ./test/script >>"$log" 2>&1 || code=1
TARE_UNION_OPS="${TARE_SOAK_UNION:-100000}" go test -count=1 -run '^TestRandomOperations$' -v -timeout 2h ./internal/union/tree >>"$log" 2>&1 || code=1
TARE_UNION_KILLS="${TARE_SOAK_SERVERS:-50}" go test -count=1 -tags root -run '^(TestTakeOver(Agrees|UnderLoad)|TestBranchChangesUnderKills)$' -v -timeout 1h ./internal/union/mnt >>"$log" 2>&1 || code=1
KERNEL_TIMEOUT=5400 KERNEL_TAGS="root failpoint" KERNEL_ENV="TARE_THIN_KILLS=${TARE_SOAK_THIN:-50} TARE_THIN_CUTS=${TARE_SOAK_THIN:-50}" KERNEL_RUN='^(TestKilledEngines|TestPowerCut|TestSuite)$/^(KillsLeaveOldOrNew|[0-9]+)$' \
	test/kernel/run.sh internal/layer/devicemapper >>"$log" 2>&1 || code=1

# All terminal sessions, on each storage driver.
bad=0
TARE_STORAGE=all go test -count=1 -tags root -run '^TestStorageDrivers$' -v -timeout 1h ./test/script >"$log.fuzz" 2>&1 || bad=1
echo "SOAK | terminal sessions on btrfs, union, vfs and overlay with metacopy | $(grep -c '^ *--- PASS: TestStorageDrivers/.*/sessions/' "$log.fuzz") | $(grep -c '^ *--- FAIL: TestStorageDrivers/.*/sessions/' "$log.fuzz") | |" >>"$log"
[ $bad = 0 ] || { cat "$log.fuzz" >>"$log"; code=1; }

# Each fuzz target, for a minute. Without the bound on minimizing it spends a
# minute on each input that the targets on real files find interesting, in which
# it counts nothing and seems to stand still.
fuzz() { # file target
	package=./$(dirname "$1")
	bad=0
	go test -count=1 -tags root -run '^$' -fuzz "^$2\$" -fuzztime "${TARE_SOAK_FUZZ:-60s}" -fuzzminimizetime 20x "$package" >"$log.fuzz" 2>&1 || bad=1
	execs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log.fuzz" | tail -1)
	echo "SOAK | inputs of $2 (${package#./}) | ${execs:-0} | $bad | |"
	[ $bad = 0 ] || { cat "$log.fuzz"; echo "--- FAIL: $2"; return 1; }
}
git grep -n '^func Fuzz' -- '*_test.go' | sed 's/\(.*\):[0-9]*:func \(Fuzz[A-Za-z0-9]*\).*/\1 \2/' >"$log.targets"
while read -r file target; do
	fuzz "$file" "$target" >>"$log" </dev/null || code=1
done <"$log.targets"
grep -E '^ +--- FAIL|^--- FAIL|^FAIL|_test.go' "$log" | head -40
grep -q '^SOAK ' "$log" || { tail -40 "$log"; exit 1; }
{
	echo "# Counted runs"
	echo
	echo "\`make soak\` writes this file. In each round clients run, stop, remove, exec in and load, a process is"
	echo "killed at a random moment, the engine is started again, and it is checked that what was acknowledged is"
	echo "there, that the container in the background still runs, and that after a clean stop nothing is left:"
	echo "process, mount, link, nftables line, cgroup, file. For pulls, clients pull and remove images; for changes of"
	echo "networks that container comes into networks and leaves them. Under traffic, connections by a published port and"
	echo "between containers stand, others are made, and names are asked for, as resolvers do, while engines come and go: none of it is lost. For power cuts"
	echo "they also commit, import, tag and push, and the engine boots with what the disk held at that moment, without"
	echo "what was in memory; that this loses a file which was not synced is tried first. A race starts containers"
	echo "while what they mount, and where, is swapped for links out of the root, or copies files in and out meanwhile; a canary outside is compared. Fuzz"
	echo "targets run with their oracles."
	echo
	echo "Date: $(date -u +%Y-%m-%d), commit $(git rev-parse --short HEAD), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), Linux $(uname -r)."
	echo
	echo "| what | rounds | bad | slowest return |"
	echo "|---|---|---|---|"
	sed -n 's/^SOAK //p' "$log" | sort
} >docs/soak.md
cat docs/soak.md
exit $code
