//go:build root && failpoint

package mapped

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
)

// step is what a child of the test does, which may be killed in it.
type step struct {
	name   string
	before func(l *lab, disks []string) // in the test
	do     func(ctx context.Context, s *volume.Service, disks []string, key string) error
	// runs says that a container has the volume mounted all along.
	runs bool
}

func steps() []step {
	create := func(name string, o map[string]string) func(context.Context, *volume.Service) error {
		return func(ctx context.Context, s *volume.Service) error {
			_, _, err := s.Create(ctx, volume.Request{Name: name, Driver: "dm", Options: o})
			return err
		}
	}
	mirrored := func(l *lab, disks []string) {
		l.mustCreate("data", "target=mirror", "device="+disks[0]+","+disks[1], "size=16m")
		l.put(l.mount("data", "c"), 0)
		l.unmount("data", "c")
	}
	running := func(l *lab, disks []string) {
		mirrored(l, disks)
		l.mount("data", "c")
	}
	snapshotted := func(l *lab, disks []string) {
		mirrored(l, disks)
		if _, err := l.TakeSnapshot(l.t.Context(), "data", "snap"); err != nil {
			l.t.Fatal(err)
		}
		l.put(l.mount("data", "c"), 1)
		l.unmount("data", "c")
	}
	return []step{
		{"create", nil, func(ctx context.Context, s *volume.Service, disks []string, _ string) error {
			return create("data", map[string]string{"target": "raid1", "device": disks[0] + "," + disks[1]})(ctx, s)
		}, false},
		{"create with a key", nil, func(ctx context.Context, s *volume.Service, disks []string, key string) error {
			return create("data", map[string]string{"target": "crypt", "device": disks[0], "keyfile": key})(ctx, s)
		}, false},
		{"mount", mirrored, func(ctx context.Context, s *volume.Service, _ []string, _ string) error {
			_, err := s.Mount(ctx, "data", volume.Mounting{User: "c"})
			return err
		}, false},
		{"unmount", running, func(_ context.Context, s *volume.Service, _ []string, _ string) error {
			s.Adopt("data", "c")
			return s.Unmount("data", "c")
		}, false},
		{"remove", mirrored, func(_ context.Context, s *volume.Service, _ []string, _ string) error { return s.Remove("data") }, false},
		{"replace", running, func(ctx context.Context, s *volume.Service, disks []string, _ string) error {
			s.Adopt("data", "c")
			return s.Replace(ctx, "data", disks[0], disks[2])
		}, true},
		{"resize", running, func(ctx context.Context, s *volume.Service, _ []string, _ string) error {
			s.Adopt("data", "c")
			return s.Resize(ctx, "data", 20<<20)
		}, true},
		{"snapshot", mirrored, func(ctx context.Context, s *volume.Service, _ []string, _ string) error {
			_, err := s.TakeSnapshot(ctx, "data", "snap")
			return err
		}, false},
		{"rollback", snapshotted, func(ctx context.Context, s *volume.Service, _ []string, _ string) error {
			return s.Rollback(ctx, "data", "snap")
		}, false},
		{"unlock", func(l *lab, disks []string) { l.mustCreate("data", "target=crypt", "device="+disks[0]) },
			func(ctx context.Context, s *volume.Service, _ []string, key string) error {
				b, err := os.ReadFile(key)
				if err != nil {
					return err
				}
				return s.Unlock(ctx, "data", b)
			}, false},
	}
}

// The child: a step, by its name, on volumes in a directory, with disks.
const (
	envStep  = "TARE_DM_STEP"
	envDir   = "TARE_DM_DIR"
	envDisks = "TARE_DM_DISKS"
	envKey   = "TARE_DM_KEY"
)

func TestMain(m *testing.M) {
	name := os.Getenv(envStep)
	if name == "" {
		os.Exit(m.Run())
	}
	all := steps()
	i := slices.IndexFunc(all, func(s step) bool { return s.name == name })
	dir := os.Getenv(envDir)
	s, err := volume.Open(volume.Config{Dir: dir, Store: store.New(), Events: event.NewLog(),
		Drivers: []volume.Driver{New(Config{Dir: dir, Engine: engineID, Store: store.New()})}})
	if err == nil {
		err = all[i].do(context.Background(), s, strings.Split(os.Getenv(envDisks), ","), os.Getenv(envKey))
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.Close()
	os.Exit(0)
}

// An engine that is killed anywhere leaves what was or what is to be, nothing in the
// kernel, and no mark on a device that is not in use.
func TestKilled(t *testing.T) {
	for _, s := range steps() {
		t.Run(strings.ReplaceAll(s.name, " ", "_"), func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "points")
			killed(t, s, "TARE_FAILPOINTS_LOG="+log)
			b, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			points := slices.Compact(slices.Sorted(strings.SplitSeq(strings.TrimSpace(string(b)), "\n")))
			if len(points) < 2 {
				t.Fatalf("only %q", points)
			}
			for _, p := range points {
				if !testing.Short() || strings.HasPrefix(p, "volume-dm/") {
					t.Run(strings.ReplaceAll(p, "/", ":"), func(t *testing.T) { killed(t, s, "TARE_FAILPOINTS="+p+"=kill") })
				}
			}
		})
	}
}

func killed(t *testing.T, s step, env string) {
	l := newLab(t)
	disks, key := l.disks(3, 32), keyFile(t, 64)
	if s.before != nil {
		s.before(l, disks)
	}
	l.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envStep+"="+s.name, envDir+"="+l.dir, envDisks+"="+strings.Join(disks, ","), envKey+"="+key, env)
	out, err := cmd.CombinedOutput()
	if kill := strings.HasSuffix(env, "=kill"); kill == (err == nil) || kill && cmd.ProcessState.ExitCode() >= 0 {
		t.Errorf("%v: %s", err, out)
	}
	if s.runs {
		l.start("data:c")
		l.verify(filepath.Join(l.dir, "data", volume.Files), 1)
		l.put(filepath.Join(l.dir, "data", volume.Files), 1)
		l.Close()
	}
	l.start()
	if all, err := l.dm.List(); err != nil || strings.Contains(fmt.Sprint(all), "tare-") {
		t.Errorf("%v, %v", all, err)
	}
	for _, v := range l.List() {
		l.whole(s, v, key)
	}
	l.Close() // garbage has gone then
	l.free(disks)
}

// whole looks at what there is of a volume, and removes it.
func (l *lab) whole(s step, v *volume.View, key string) {
	l.t.Helper()
	if s.name == "unlock" {
		b, err := os.ReadFile(key)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := l.Unlock(l.t.Context(), v.Name, b); err != nil {
			l.t.Error(err)
		}
	}
	at := l.mount(v.Name, "d")
	if s.before != nil && s.name != "unlock" {
		l.verify(at, 1)
	}
	l.put(at, 2)
	l.unmount(v.Name, "d")
	l.mount(v.Name, "d")
	if list, err := os.ReadDir(at); err != nil || len(list) == 0 {
		l.t.Errorf("%v, %v", list, err)
	}
	l.unmount(v.Name, "d")
	l.remove(v.Name)
}

// free fails the test if a device cannot be used for another volume.
func (l *lab) free(disks []string) {
	l.t.Helper()
	for _, d := range disks {
		dev, err := l.driver.claim(d, false)
		if err != nil {
			l.t.Error(err)
			continue
		}
		dev.Close()
	}
}
