package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/store"
)

// An exit may be acknowledged to the keeper only when its outcome is durable or
// the container is gone: the live record is what the next engine would find the
// exit by.
func TestExitIsNotSettledBeforeItsRecordIsWritten(t *testing.T) {
	exec := t.TempDir()
	if err := os.Mkdir(filepath.Join(exec, "containers"), 0700); err != nil {
		t.Fatal(err)
	}
	s := New(Config{DataRoot: t.TempDir(), ExecRoot: exec}, nil, nil, nil, event.NewLog(), store.New(), nil)
	c := testContainer(t, s.index, ident.New(), "x")
	c.View().HostConfig.AutoRemove = true
	c.View().Rootfs = "/"
	c.publish(func(v *View) { v.Status = Running })
	p := &process{cgroup: cgroup.Absent("nowhere")}
	c.process = p
	live := s.records.livePath(c.ID)
	if err := os.WriteFile(live, []byte("{}"), 0600); err != nil {
		t.Fatal(err)
	}
	// A directory with something in it can neither be removed nor replaced.
	obstacle := s.records.path(c.View().Record)
	if err := os.MkdirAll(obstacle+"/x", 0700); err != nil {
		t.Fatal(err)
	}
	s.exits.publishExit(c, keeper.Exit{ID: c.ID, At: time.Now()}, false)
	settle := s.exits.afterExit(c, p)
	if _, err := os.Lstat(live); settle == nil || err != nil {
		t.Fatal("the exit counts as settled", err)
	}
	if settle() == nil {
		t.Fatal("settled although the record cannot be written")
	}
	again := s.exits.containerEnded(keeper.Exit{ID: c.ID})
	done := make(chan error, 1)
	go func() { done <- again() }()
	if err := os.RemoveAll(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(obstacle, nil, 0600); err != nil {
		t.Fatal(err)
	}
	if err := settle(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal("told again:", err)
	}
	for _, path := range []string{live, obstacle} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Error(path, err)
		}
	}
	s.work.wait()
}

func TestExitIsTriedAgainUntilTheEngineCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWork()
		tries := 0
		if !w.insist("record exit", func() error {
			if tries++; tries < 4 {
				return errors.New("disk full")
			}
			return nil
		}) || tries != 4 {
			t.Fatal(tries)
		}
		time.AfterFunc(time.Minute, w.close)
		if w.insist("record exit", func() error { return errors.New("disk full") }) {
			t.Fatal("an exit that is not recorded may be acknowledged")
		}
	})
}

func TestCloseWaitsForTheExitsOfStrays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st strays
		st.killed("a")
		st.killed("b")
		begin := time.Now()
		time.AfterFunc(time.Second, func() { st.gone("a") })
		time.AfterFunc(2*time.Second, func() { st.gone("b") })
		st.wait(strayWait)
		if d := time.Since(begin); d != 2*time.Second {
			t.Fatal(d)
		}
		st.wait(strayWait) // none is left
		st.killed("c")
		st.wait(strayWait)
		if d := time.Since(begin); d != 2*time.Second+strayWait {
			t.Fatal("waits for ever, or not at all", d)
		}
	})
}
