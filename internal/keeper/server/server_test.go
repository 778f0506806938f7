package server

import (
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

func TestClientsMustBeUnixStreams(t *testing.T) {
	pair := func(kind int) *os.File {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(fds[1])
		return os.NewFile(uintptr(fds[0]), "x")
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listening, _ := l.(*net.UnixListener).File()
	tcp, _ := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	null, _ := os.Open(os.DevNull)
	for name, c := range map[string]struct {
		f  *os.File
		ok bool
	}{
		"stream":    {pair(syscall.SOCK_STREAM), true},
		"seqpacket": {pair(syscall.SOCK_SEQPACKET), false},
		"datagram":  {pair(syscall.SOCK_DGRAM), false},
		"listening": {listening, false},
		"tcp":       {os.NewFile(uintptr(tcp), "tcp"), false},
		"file":      {null, false},
	} {
		if err := checkClient(c.f); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		c.f.Close()
	}
}

func TestMountPointsThatStay(t *testing.T) {
	for point, want := range map[string]bool{
		"/": true, "/proc": true, "/sys/fs/cgroup/memory": true, "/dev/shm": true, "/run": true, "/run/tare": true,
		"/run/tare/netns/x": false, "/home": false, "/run/user": false, "/process": false, "/var/lib/docker/overlay2/x": false,
	} {
		if needed(point, "/run/tare") != want {
			t.Errorf("%s: %v", point, !want)
		}
	}
	if got := unescape(`/a\040b\134c`); got != `/a b\c` {
		t.Errorf("%q", got)
	}
}

// FuzzKeeperMessage decodes a packet, and a start in it: whatever comes, the
// keeper lives and no descriptor stays.
func FuzzKeeperMessage(f *testing.F) {
	packet := func(o wire.Op, doc string, payload []byte) []byte {
		b := make([]byte, wire.HeaderSize)
		b[0], b[4], b[5], b[16], b[17] = byte(o), byte(len(doc)), byte(len(doc)>>8), byte(len(payload)), byte(len(payload)>>8)
		return append(append(b, doc...), payload...)
	}
	p := spawn.NewPlan()
	p.Exec("x", "/bin", []string{"x"}, nil)
	payload, _ := wire.AppendImage(nil, p.Image())
	f.Add(packet(wire.OpStart, `{"ID":"a","Plan":{"Bytes":1400,"Relocs":7}}`, payload), 0)
	f.Add(packet(wire.OpStart, `{"ID":"a","Files":1,"Clients":[{"Buffered":3}]}`, []byte("abc")), 2)
	f.Add(packet(wire.OpAttach, `{"ID":"a","Buffered":-1}`, nil), 1)
	f.Add(packet(wire.OpAdopt, `{"ID":"a","Streams":[true,true,true,true]}`, nil), 1)
	f.Fuzz(func(t *testing.T, b []byte, files int) {
		m := &wire.Message{}
		defer m.Close()
		for range min(max(files, 0), 4) {
			n, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			m.Files = append(m.Files, n)
		}
		if m.Decode(b) != nil {
			return
		}
		if s, err := readStart(m); err == nil {
			_ = s.Plan.Validate()
			for _, c := range s.clients {
				c.Conn.Close()
			}
		}
		var d wire.AdoptDoc
		if m.Unmarshal(&d) == nil {
			if rest, err := d.Unpack(m.Files); err == nil && len(rest) > len(m.Files) {
				t.Fatal("more descriptors than came")
			}
		}
	})
}
