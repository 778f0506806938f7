package hostport

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Listener is a socket that receives from strangers.
type Listener struct {
	Addr  netip.AddrPort // IPv6's unspecified address receives from IPv4 too
	Inode uint64
}

// Listeners lists the TCP or UDP sockets that receive at a port, in the network
// namespace of a process; 0 is the caller.
func Listeners(pid int, proto string, port uint16) ([]Listener, error) {
	of := "thread-self"
	if pid != 0 {
		of = strconv.Itoa(pid)
	}
	var all []Listener
	for _, name := range []string{proto, proto + "6"} {
		list, err := listeners(filepath.Join("/proc", of, "net", name), proto == "tcp", port)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.EINVAL) { // without IPv6, or the process is gone
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// listeners reads a table of sockets: sl, local address, remote address, state, …,
// inode in the tenth place.
func listeners(path string, tcp bool, port uint16) (all []Listener, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); err = s.Err() {
		w := strings.Fields(s.Text())
		if len(w) < 10 {
			continue
		}
		addr, e := parseAddr(w[1])
		listens := w[3] == "0A" // TCP_LISTEN
		if !tcp {
			listens = strings.HasSuffix(w[2], ":0000") // connected to nobody
		}
		if e != nil || addr.Port() != port || !listens {
			continue
		}
		inode, _ := strconv.ParseUint(w[9], 10, 64)
		all = append(all, Listener{addr, inode})
	}
	return all, err
}

// parseAddr reads the kernel's form: words of four bytes in the host's order.
func parseAddr(s string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q", s)
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	a, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q", s)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

// Receives reports whether the listener receives what is sent to an address.
func (l Listener) Receives(a netip.Addr) bool {
	at := l.Addr.Addr()
	return at == a || at.IsUnspecified() && (at.Is6() || a.Is4())
}

// Owner finds a process that has the socket: its id and its name. It is 0 if none
// is seen. All processes of the machine are looked at.
func Owner(inode uint64) (pid int, name string) {
	want := fmt.Sprintf("socket:[%d]", inode)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		dir, err := os.ReadDir(p + "/fd")
		if err != nil {
			continue // it has ended
		}
		for _, d := range dir {
			if to, err := os.Readlink(p + "/fd/" + d.Name()); err == nil && to == want {
				pid, _ := strconv.Atoi(filepath.Base(p))
				b, _ := os.ReadFile(p + "/comm")
				return pid, strings.TrimSpace(string(b))
			}
		}
	}
	return 0, ""
}
