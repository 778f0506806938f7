package main

import (
	"strings"
	"testing"
)

func TestValuesOfExtensionsAreCompleted(t *testing.T) {
	e := newFakeEngine(t)
	for line, want := range map[string]string{
		"run --systemd ":              "auto\nalways\nfalse\n",
		"create --tz ":                "local\n",
		"run --health-on-failure ":    "none\nkill\nrestart\nstop\n",
		"run --health-startup-cmd ":   ":4\n",
		"container create --timeout ": ":4\n",
	} {
		r := tare(t, e.host, "", append([]string{"__complete"}, strings.Split(line, " ")...)...)
		if r.code != 0 || !strings.HasPrefix(r.out, want) {
			t.Errorf("%s: %+v, want %q", line, r, want)
		}
	}
}
