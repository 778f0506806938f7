//go:build root

package dm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/loop"
	"golang.org/x/sys/unix"
)

// open is a connection, at the end of which there must be no device and no node.
func open(t *testing.T, o Options) *Conn {
	t.Helper()
	c, err := Open(o)
	if errors.Is(err, unix.ENODEV) {
		t.Skip("this kernel has no device mapper")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, err := c.List()
		if err != nil || len(all) > 0 {
			t.Errorf("devices left: %+v, %v", all, err)
		}
		for _, d := range all {
			c.Remove(Name(d.Name), RemoveOptions{})
		}
		if names, err := c.nodes.list(); err != nil || len(names) > 0 {
			t.Errorf("nodes left: %v, %v", names, err)
		}
		c.Close()
	})
	return c
}

// disks are n loop devices of 32 MB.
func disks(t *testing.T, n int) []Dev {
	t.Helper()
	var devs []Dev
	for i := range n {
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(32 << 20); err != nil {
			t.Fatal(err)
		}
		d, err := loop.Attach(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		var st unix.Stat_t
		if err := unix.Fstat(int(d.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		devs = append(devs, decodeDev(st.Rdev))
	}
	return devs
}

func activate(t *testing.T, c *Conn, name string, o CreateOptions, lines ...string) Info {
	t.Helper()
	table, err := ParseTable([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Activate(name, table, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(Name(name), RemoveOptions{Retry: true}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	return info
}

// Each target is made; its table and status, read and printed by package target, are
// byte for byte what the kernel has printed, and the table is valid.
func TestKernelsTargets(t *testing.T) {
	c := open(t, Options{})
	d := disks(t, 8)
	text := func(format string) string {
		for i, dev := range d {
			format = strings.ReplaceAll(format, fmt.Sprintf("@%d", i), dev.String())
		}
		return format
	}
	check := func(name string, lines Table, status bool) {
		for _, l := range lines {
			if status {
				s, err := target.ParseStatus(l.Type, l.Params)
				if err != nil {
					t.Errorf("%s: %v", l, err)
				} else if got := s.AppendStatus(nil); !bytes.Equal(got, l.Params) {
					t.Errorf("status of %s: %q became %q", name, l.Params, got)
				}
				continue
			}
			p, err := target.Parse(l.Type, l.Params)
			if err != nil {
				t.Errorf("%s: %v", l, err)
				continue
			}
			if got := p.AppendParams(nil); !bytes.Equal(got, l.Params) {
				t.Errorf("table of %s: %q became %q", name, l.Params, got)
			}
			if err := p.Validate(); err != nil {
				t.Error(err)
			}
		}
	}
	for i, row := range []string{
		"0 8 linear @0 0", "0 8 zero", "0 8 error", "0 2048 striped 2 16 @1 0 @2 0",
		"0 2048 mirror core 1 1024 2 @1 4096 @2 4096",
		"0 2048 mirror disk 3 @3 1024 nosync 2 @1 12288 @2 12288 2 handle_errors keep_log",
		"0 2048 snapshot-origin @4", "0 2048 snapshot @4 @5 P 8", "0 2048 snapshot @4 @6 PO 8", "0 2048 snapshot @4 @6 N 16",
		"0 2048 snapshot-merge @4 @5 P 8",
		"0 1000 delay @7 0 5", "0 1000 delay @7 0 5 @7 0 9 @7 1 2",
		"0 1000 flakey @7 1000 5 6", "0 1000 flakey @7 1000 5 6 5 corrupt_bio_byte 32 r 1 0",
		"0 1000 multipath 0 0 1 1 round-robin 0 2 1 @7 1 @0 1",
		"0 1000 multipath 3 queue_if_no_path queue_mode bio 0 2 1 service-time 0 1 2 @7 1 1 queue-length 0 1 1 @0 1",
		"0 1000 crypt aes-cbc-essiv:sha256 " + testKey + testKey + " 0 @7 4096",
		"0 1000 crypt aes-xts-plain64 " + testKey + testKey + " 0 @7 8192 1 allow_discards",
		"0 20480 raid raid1 3 0 region_size 1024 2 - @1 - @2",
		"0 20480 raid raid5_ls 3 64 region_size 1024 3 - @1 - @2 - @3",
		"0 20480 raid raid10 5 128 raid10_copies 2 raid10_format near 4 @4 @1 @5 @2 @6 @3 @7 @0",
		"0 32768 cache @3 @5 @4 128 1 writethrough default 0",
		"0 32768 thin-pool @6 @0 128 16",
		"0 1024 verity 1 @7 @6 4096 4096 128 1 sha256 4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076 1234 1 ignore_corruption",
	} {
		for _, dev := range d {
			wipeStart(t, dev)
		}
		name := fmt.Sprintf("t%d", i)
		table, err := ParseTable([]byte(text(row)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Activate(name, table, CreateOptions{ReadOnly: table[0].Type == "verity"}); err != nil {
			t.Error(err)
			continue
		}
		_, lines, err := c.Table(Name(name), Query{})
		if err != nil {
			t.Error(err)
		}
		check(name, lines, false)
		_, lines, err = c.Status(Name(name), Query{})
		if err != nil {
			t.Error(err)
		}
		check(name, lines, true)
		if table[0].Type == "thin-pool" {
			thinDevices(t, c, name, check)
		}
		if err := c.Remove(Name(name), RemoveOptions{Retry: true}); err != nil {
			t.Error(err)
		}
	}
}

// wipeStart clears the start of a device, where metadata lies.
func wipeStart(t *testing.T, d Dev) {
	t.Helper()
	name, err := KernelName(d)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile("/dev/"+name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func thinDevices(t *testing.T, c *Conn, pool string, check func(string, Table, bool)) {
	if _, err := c.Message(Name(pool), 0, []byte("create_thin 0")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Message(Name(pool), 0, []byte("create_thin 0")); err == nil || !strings.Contains(err.Error(), "message "+pool+" [thin-pool]") {
		t.Errorf("twice: %v", err)
	}
	if _, err := c.Activate("thin", Table{LineOf(0, 2000, &target.Thin{Pool: "/dev/mapper/" + pool})}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, lines, err := c.Table(Name("thin"), Query{})
		if err != nil {
			t.Error(err)
		}
		check("thin", lines, false)
		_, lines, err = c.Status(Name("thin"), Query{})
		if err != nil {
			t.Error(err)
		}
		check("thin", lines, true)
		if err := os.WriteFile("/dev/mapper/thin", make([]byte, 4096), 0); err != nil {
			t.Error(err)
		}
	}
	if err := c.Remove(Name("thin"), RemoveOptions{Retry: true}); err != nil {
		t.Error(err)
	}
}

// Bad tables leave nothing; the error names device, target and the kernel's reason.
func TestBadTables(t *testing.T) {
	c := open(t, Options{})
	d := disks(t, 1)[0]
	for _, x := range []struct{ table, want string }{
		{"0 8 nosuch x", "[nosuch]: invalid argument: nosuch: unknown target type"},
		{"0 8 linear", "[linear]: invalid argument: linear: Invalid argument count"},
		{"0 8 linear /dev/nosuch 0", "[linear]: no such device: linear: Device lookup failed"},
		{"0 8 linear 99:99 0", "[linear]: no such device or address: linear: Device lookup failed"},
		{"0 8 linear " + d.String() + " 0\n9 8 zero", "[linear, zero]: invalid argument"},
		{"0 2048 striped 2 16 " + d.String() + " 0", "[striped]: invalid argument: striped: Not enough destinations specified"},
		{"0 8 thin " + d.String() + " 0", "[thin]: "},
	} {
		table, err := ParseTable([]byte(x.table))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Activate("bad", table, CreateOptions{})
		if err == nil || !strings.HasPrefix(err.Error(), "device mapper: load bad (") || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.table, err)
		}
	}
}

// A device that is in use stays, and the error says what it is; deferred it goes with
// its user.
func TestBusyDevice(t *testing.T) {
	c := open(t, Options{})
	activate(t, c, "low", CreateOptions{}, "0 2048 linear "+disks(t, 1)[0].String()+" 0")
	activate(t, c, "high", CreateOptions{}, "0 1024 linear /dev/mapper/low 0")
	if err := c.Remove(Name("low"), RemoveOptions{}); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "remove low [linear]") {
		t.Error(err)
	}
	if _, err := os.Stat("/dev/mapper/low"); err != nil {
		t.Error(err)
	}
	if err := c.Remove(Name("low"), RemoveOptions{Deferred: true}); err != nil {
		t.Error(err)
	}
	if i, err := c.Info(Name("low"), Query{}); err != nil || !i.DeferredRemove {
		t.Errorf("%+v, %v", i, err)
	}
	if err := c.Remove(Name("high"), RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Info(Name("low"), Query{}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Nodes are there with the device, move with its name and go with it; what is wrong
// in /dev/mapper is put right.
func TestNodes(t *testing.T) {
	c := open(t, Options{Nodes: NodeMode{UID: 1, GID: 2, Mode: 0o640}})
	info := activate(t, c, "a", CreateOptions{}, "0 8 zero")
	node := func(name string) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Stat("/dev/mapper/"+name, &st); err != nil {
			t.Error(name, err)
		}
		return st
	}
	if st := node("a"); decodeDev(st.Rdev) != info.Dev || st.Mode != unix.S_IFBLK|0o640 || st.Uid != 1 || st.Gid != 2 {
		t.Errorf("%+v", st)
	}
	if _, err := c.Rename(Name("a"), "b"); err != nil {
		t.Fatal(err)
	}
	node("b")
	if _, err := os.Stat("/dev/mapper/a"); err == nil {
		t.Error("the old node is there")
	}
	if err := errors.Join(os.Remove("/dev/mapper/b"), unix.Mknod("/dev/mapper/gone", unix.S_IFBLK|0o600, int(Dev{253, 999}.encode()))); err != nil {
		t.Fatal(err)
	}
	if err := c.MakeNodes(""); err != nil {
		t.Error(err)
	}
	node("b")
	if _, err := os.Stat("/dev/mapper/gone"); err == nil {
		t.Error("a node without a device is there")
	}
	if err := c.Remove(Number(info.Dev), RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

func TestWait(t *testing.T) {
	c := open(t, Options{})
	info := activate(t, c, "a", CreateOptions{}, "0 8 zero")
	ctx, cancel := context.WithCancel(context.Background())
	type result struct {
		info Info
		err  error
	}
	wait := func(ctx context.Context, event uint32) chan result {
		done := make(chan result, 1)
		go func() {
			i, _, err := c.Wait(ctx, info.Ref(), event)
			done <- result{i, err}
		}()
		return done
	}
	done := wait(ctx, info.Event)
	cancel()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Error(r.err)
	}
	done = wait(context.Background(), info.Event)
	if _, err := c.Rename(Name("a"), "b"); err != nil { // an event
		t.Fatal(err)
	}
	r := <-done
	if r.err != nil || r.info.Event == info.Event || r.info.Name != "b" {
		t.Errorf("%+v", r)
	}
	if i, _, err := c.WaitEvent(Name("b"), info.Event, Query{}); err != nil || i.Event != r.info.Event {
		t.Errorf("%+v, %v", i, err)
	}
	done = wait(context.Background(), r.info.Event)
	if err := c.Remove(Name("b"), RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := <-done; !errors.Is(r.err, fs.ErrNotExist) && r.info.Event == 0 {
		t.Errorf("%+v", r)
	}
}

// A minor number can be asked for, and read-only.
func TestCreateOptions(t *testing.T) {
	c := open(t, Options{})
	minor := uint32(77)
	info := activate(t, c, "a", CreateOptions{Minor: &minor, UUID: "u", ReadOnly: true}, "0 8 zero")
	if info.Dev.Minor != minor || !info.ReadOnly {
		t.Errorf("%+v", info)
	}
	if name, err := KernelName(info.Dev); err != nil || name != "dm-77" {
		t.Error(name, err)
	}
	if name, err := MappedName(info.Dev); err != nil || name != "a" {
		t.Error(name, err)
	}
	if err := SetReadAhead(info.Dev, 511); err != nil {
		t.Error(err)
	}
	if n, err := ReadAhead(info.Dev); err != nil || n != 512 {
		t.Error(n, err)
	}
	if _, err := c.Create("b", CreateOptions{UUID: "u"}); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if _, err := c.Create("b", CreateOptions{Minor: &minor}); err == nil {
		t.Error("a minor number twice")
	}
	all, err := c.List()
	if err != nil || len(all) != 1 || all[0].UUID != "u" || all[0].Dev != info.Dev {
		t.Errorf("%+v, %v", all, err)
	}
}

// The kernel's events have the cookie, and what completes them as udev's rules do
// ends the wait.
func TestCookiesReachUdev(t *testing.T) {
	c := open(t, Options{})
	udevControl = t.TempDir()
	t.Cleanup(func() { udevControl = "/run/udev/control" })
	before := cookies(t)
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	if err := unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		t.Fatal(err)
	}
	const changes = 3 // that exchange tables or names: a mere resume is none
	done := make(chan []string)
	go func() {
		var seen []string
		buf := make([]byte, 1<<16)
		for len(seen) < changes {
			n, err := unix.Read(s, buf)
			if err != nil {
				t.Error(err)
				break
			}
			for _, w := range strings.Split(string(buf[:n]), "\x00") {
				value, ok := strings.CutPrefix(w, "DM_COOKIE=")
				k, err := ParseCookie(value)
				if !ok || err != nil || k.FromEvent() == 0 {
					continue
				}
				seen = append(seen, strings.SplitN(string(buf[:n]), "@", 2)[0])
				if err := k.FromEvent().Complete(); err != nil {
					t.Error(err)
				}
			}
		}
		done <- seen
	}()
	activate(t, c, "a", CreateOptions{}, "0 8 zero")
	if _, err := c.Rename(Name("a"), "b"); err != nil {
		t.Error(err)
	}
	if _, err := c.Resume(Name("b"), SuspendOptions{}); err != nil {
		t.Error(err)
	}
	if err := c.Remove(Name("b"), RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(<-done); got != "[change change remove]" {
		t.Error(got)
	}
	noCookies(t, before)
}

// The control device's node is made where there is none.
func TestControlNode(t *testing.T) {
	open(t, Options{}) // or skip
	dir := filepath.Join(t.TempDir(), "mapper")
	c, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Driver().less(oldest) {
		t.Error(c.Driver())
	}
	info, err := c.Activate("x", Table{line(0, 8, "zero", "")}, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/x", &st); err != nil || decodeDev(st.Rdev) != info.Dev {
		t.Error(err)
	}
	if err := c.Remove(Name("x"), RemoveOptions{}); err != nil {
		t.Error(err)
	}
}
