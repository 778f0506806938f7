#!/usr/bin/env bash
# go test 2>&1 | test/summary.sh NAME: passes the output on and ends with a
# count; its status is that of the tests.
set -uo pipefail
awk -v name="$1" '
	{ print; fflush() }
	/^ok  / { ok++ }
	/^FAIL\t/ { bad++ }
	/^FAIL$/ { failed = 1 }
	END {
		printf "%s: %d packages passed, %d failed\n", name, ok, bad
		exit (failed || bad || !ok) ? 1 : 0
	}'
