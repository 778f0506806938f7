package container

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
)

func TestDeparted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d departed
		d.add("a", Result{ExitCode: 3})
		for _, cond := range []container.WaitCondition{"", container.WaitConditionNotRunning, container.WaitConditionRemoved} {
			if r, ok := d.find("a", cond); !ok || r.ExitCode != 3 {
				t.Error(cond, r, ok)
			}
		}
		if _, ok := d.find("a", container.WaitConditionNextExit); ok {
			t.Error("it exits no more")
		}
		if _, ok := d.find("b", ""); ok {
			t.Error("an unknown one")
		}
		time.Sleep(departedTime + time.Second)
		if _, ok := d.find("a", ""); ok {
			t.Error("it is long gone")
		}
		for i := range departedMost + 100 {
			d.add(strconv.Itoa(i), Result{ExitCode: i})
		}
		if len(d.list) != departedMost {
			t.Error(len(d.list))
		}
		if _, ok := d.find("99", ""); ok {
			t.Error("too many are kept")
		}
		if r, ok := d.find("100", ""); !ok || r.ExitCode != 100 {
			t.Error(r, ok)
		}
	})
}
