package stats

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/linux/cgroup"
)

// fakes are containers whose processors work as time goes by; "stopped" does
// not run, "ending" ends while it is read.
type fakes struct {
	mu    sync.Mutex
	reads map[string]int
}

func (f *fakes) read(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads[id]++
}

func (f *fakes) Target(id string) (Target, bool, error) {
	if id == "absent" {
		return Target{}, false, errors.New("No such container: absent")
	}
	id = strings.TrimPrefix(id, "name-of-")
	return Target{ID: id, Name: "/" + id}, id != "stopped", nil
}

func (f *fakes) Running() []Target { return []Target{{ID: "a"}, {ID: "b"}, {ID: "ending"}} }

func collector() (*Collector, *fakes) {
	f := &fakes{reads: map[string]int{}}
	c := New(f)
	begun := time.Now()
	c.host = func() (hostCounters, error) { return hostCounters{cpu: time.Since(begun)}, nil }
	c.sample = func(t Target, h hostCounters) (*container.StatsResponse, error) {
		f.read(t.ID)
		if t.ID == "ending" {
			return nil, fs.ErrNotExist
		}
		r := empty(t)
		r.Read, r.CPUStats.SystemUsage = time.Now(), uint64(h.cpu)
		return r, nil
	}
	return c, f
}

func TestNow(t *testing.T) {
	c, _ := collector()
	if r, err := c.Now("a"); err != nil || r.Read.IsZero() || !r.PreRead.IsZero() || r.Name != "/a" {
		t.Error(r, err)
	}
	for _, id := range []string{"stopped", "ending"} {
		if r, err := c.Now(id); err != nil || !r.Read.IsZero() || r.ID != id {
			t.Error(id, r, err)
		}
	}
	if _, err := c.Now("absent"); err == nil {
		t.Error("no error")
	}
}

func TestPairIsASecondApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := collector()
		r, err := c.Pair(t.Context(), "a")
		if err != nil || r.CPUStats.SystemUsage-r.PreCPUStats.SystemUsage != uint64(time.Second) || r.Read.Sub(r.PreRead) != time.Second {
			t.Error(r, err)
		}
		if r, err := c.Pair(t.Context(), "stopped"); err != nil || !r.Read.IsZero() {
			t.Error(r, err)
		}
	})
}

func TestWatchersShareTheReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := collector()
		ctx, cancel := context.WithCancel(t.Context())
		counts := make([]int, 3)
		for i := range 2 {
			go c.Watch(ctx, "a", func(r *container.StatsResponse) error {
				if counts[i]++; counts[i] > 2 && r.CPUStats.SystemUsage-r.PreCPUStats.SystemUsage != uint64(time.Second) {
					t.Error("sample does not follow the one before", r.PreCPUStats, r.CPUStats)
				}
				return nil
			})
		}
		go c.WatchAll(ctx, func(round []*container.StatsResponse) error {
			if counts[2]++; len(round) != 2 {
				t.Error(len(round), "containers")
			}
			return nil
		})
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		if !reflect.DeepEqual(counts, []int{6, 6, 5}) || f.reads["a"] != 2+5 || f.reads["b"] != 5 {
			t.Error(counts, f.reads)
		}
		cancel()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		before := f.reads["a"]
		time.Sleep(time.Minute)
		synctest.Wait()
		if f.reads["a"] != before {
			t.Error("it measures though nobody watches")
		}
		if _, err := c.Pair(t.Context(), "a"); err != nil { // and again
			t.Error(err)
		}
	})
}

// TestWatchByName: a round is of IDs, the container may be asked for by its name.
func TestWatchByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := collector()
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		n := 0
		err := c.Watch(ctx, "name-of-a", func(*container.StatsResponse) error {
			n++
			return nil
		})
		if err != nil || n != 4 {
			t.Errorf("%d samples, %v", n, err)
		}
		synctest.Wait()
		time.Sleep(2 * time.Second) // the reading ends
	})
}

func TestSlowWatcherGetsTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := collector()
		ctx, cancel := context.WithCancel(t.Context())
		var got []time.Duration
		begun := time.Now()
		go c.WatchAll(ctx, func(round []*container.StatsResponse) error {
			got = append(got, round[0].Read.Sub(begun))
			time.Sleep(3400 * time.Millisecond)
			return nil
		})
		time.Sleep(9 * time.Second)
		cancel()
		time.Sleep(5 * time.Second) // the watcher and the loop end
		synctest.Wait()
		want := []time.Duration{time.Second, 4 * time.Second, 7 * time.Second}
		if !reflect.DeepEqual(got, want) {
			t.Error(got, want)
		}
	})
}

func TestInterfaces(t *testing.T) {
	const dev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    0    0    0     0          0         0        1       2    0    0    0     0       0          0
  eth0:    1132      14    1    2    0     0          0         0      866      11    3    4    0     0       0          0
`
	want := map[string]container.NetworkStats{"eth0": {RxBytes: 1132, RxPackets: 14, RxErrors: 1, RxDropped: 2, TxBytes: 866, TxPackets: 11, TxErrors: 3, TxDropped: 4}}
	if got := interfaces(dev); !reflect.DeepEqual(got, want) {
		t.Error(got)
	}
}

func TestBlkioListsAreNeverNull(t *testing.T) {
	b := blkio([]cgroup.IOStats{{Major: 254, Op: "read", Bytes: 4096, Ops: 2}})
	if len(b.IoServiceBytesRecursive) != 1 || b.IoServicedRecursive[0].Value != 2 || b.SectorsRecursive == nil {
		t.Errorf("%+v", b)
	}
}

func TestHostIsRead(t *testing.T) {
	h, err := readHost()
	if err != nil || h.memory < 1<<20 || h.online < 1 || h.cpu <= 0 {
		t.Error(h, err)
	}
	if !strings.HasPrefix(empty(Target{ID: "x"}).OSType, "linux") {
		t.Error("not Linux")
	}
}
