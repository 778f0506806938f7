package nft

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestElementsFillTheirSetsRegisters(t *testing.T) {
	from, to := netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("172.17.0.2:8080")
	p, err := PortElement("udp", 53, to)
	if err != nil || p.key != "\x11\x00\x00\x00\x00\x35\x00\x00" || p.value != "\xac\x11\x00\x02\x1f\x90\x00\x00" {
		t.Errorf("%q %q %v", p.key, p.value, err)
	}
	a, err := AddrPortElement("tcp", from, to)
	if err != nil || a.key != "\xc0\x00\x02\x01\x06\x00\x00\x00\x00\x50\x00\x00" || a.value != p.value {
		t.Errorf("%q %q %v", a.key, a.value, err)
	}
	if s := PortMap("x", IPv4); int(s.key.Bytes) != len(p.key) || int(s.data.Bytes) != len(p.value) {
		t.Error("PortMap", s.key.Bytes, s.data.Bytes)
	}
	if s := AddrPortMap("x", IPv4); int(s.key.Bytes) != len(a.key) {
		t.Error("AddrPortMap", s.key.Bytes)
	}
	if s := LinkSet("x"); int(s.key.Bytes) != len(LinkElement("tare0").key) {
		t.Error("LinkSet", s.key.Bytes)
	}
	six, err := AddrPortElement("tcp", netip.MustParseAddrPort("[2001:db8::1]:80"), netip.MustParseAddrPort("[fd00::2]:8080"))
	if s := AddrPortMap("x", IPv6); err != nil || int(s.key.Bytes) != len(six.key) || int(s.data.Bytes) != len(six.value) {
		t.Errorf("%q %q %v", six.key, six.value, err)
	}
	for _, bad := range []error{second(PortElement("icmp", 1, to)), second(AddrPortElement("tcp", netip.MustParseAddrPort("[::1]:1"), to))} {
		if bad == nil {
			t.Error("accepted")
		}
	}
}

func TestPrefixesAreIntervals(t *testing.T) {
	for prefix, want := range map[string][]string{
		"10.1.2.3/24":    {"\x0a\x01\x02\x00", "\x0a\x01\x03\x00"},
		"10.255.0.0/16":  {"\x0a\xff\x00\x00", "\x0b\x00\x00\x00"},
		"255.255.0.0/16": {"\xff\xff\x00\x00"}, // nothing is behind it
		"0.0.0.0/0":      {"\x00\x00\x00\x00"},
		"192.0.2.1/32":   {"\xc0\x00\x02\x01", "\xc0\x00\x02\x02"},
		"fd00:0:0:ff::/64": {
			"\xfd\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00",
			"\xfd\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		},
	} {
		var keys []string
		for i, e := range PrefixJump(netip.MustParsePrefix(prefix), "c") {
			keys = append(keys, e.key)
			if e.end != (i == 1) || (e.chain == "c") != (i == 0) {
				t.Errorf("%s: %+v", prefix, e)
			}
		}
		if !slices.Equal(keys, want) {
			t.Errorf("%s: %q", prefix, keys)
		}
	}
}

func second(_ Element, err error) error { return err }

// report makes a message as the kernel sends it about a change.
func report(typ int, port uint32, names ...string) []byte {
	body := []byte{unix.NFPROTO_INET, 0, 0, 0}
	for i, n := range names {
		n += "\x00"
		body = binary.NativeEndian.AppendUint16(body, uint16(len(n)+4))
		body = binary.NativeEndian.AppendUint16(body, uint16(i+1))
		body = append(body, n...)
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
	}
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NFNL_SUBSYS_NFTABLES<<8|typ))
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(binary.NativeEndian.AppendUint32(b, port), body...)
}

func TestWatchSeesOthersChangesOfItsTable(t *testing.T) {
	c := &Conn{}
	c.port.Store(77)
	w := &Watch{table: "mine", except: "user", conn: c}
	for _, x := range []struct {
		name string
		msg  []byte
		want bool
	}{
		{"table deleted", report(unix.NFT_MSG_DELTABLE, 1, "mine"), true},
		{"own change", report(unix.NFT_MSG_DELTABLE, 77, "mine"), false},
		{"other table", report(unix.NFT_MSG_DELTABLE, 1, "other"), false},
		{"rule", report(unix.NFT_MSG_NEWRULE, 1, "mine", "forward"), true},
		{"rule of the excepted chain", report(unix.NFT_MSG_NEWRULE, 1, "mine", "user"), false},
		{"excepted chain deleted", report(unix.NFT_MSG_DELCHAIN, 1, "mine", "user"), true},
		{"elements", report(unix.NFT_MSG_DELSETELEM, 1, "mine", "ports"), true},
		{"generation", report(unix.NFT_MSG_NEWGEN, 1, "mine"), false},
		{"second message", append(report(unix.NFT_MSG_NEWGEN, 1, "x"), report(unix.NFT_MSG_DELRULE, 1, "mine", "c")...), true},
	} {
		if got := w.foreign(x.msg); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
		all, others := &Watch{conn: c}, x.name != "own change" && x.name != "generation"
		if got := all.foreign(x.msg); got != others {
			t.Errorf("%s: of all tables %v", x.name, got)
		}
	}
}

func FuzzWatch(f *testing.F) {
	f.Add(report(unix.NFT_MSG_NEWRULE, 1, "mine", "forward"))
	f.Fuzz(func(t *testing.T, p []byte) {
		(&Watch{table: "mine", conn: &Conn{}}).foreign(p)
	})
}
