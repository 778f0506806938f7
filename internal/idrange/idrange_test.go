package idrange

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func host(t *testing.T) Host {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"passwd": "root:x:0:0::/:/bin/sh\nsam:x:1000:1000::/:/bin/sh\nbare:x:1001:1001::/:/bin/sh\nodd:x:1002:1002::/:/bin/sh\n",
		"group":  "root:x:0:\nsam:x:1000:\nstaff:x:50:\nbare:x:1001:\nodd:x:1002:\n",
		"subuid": "# ranges\nsam:100000:65536\n1000:300000:10\nodd:x:1\ntare:1000000:4096\n",
		"subgid": "sam:200000:65536\ntare:1001024:4096\nodd:1:1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Host{Etc: dir}
}

func TestRemap(t *testing.T) {
	h := host(t)
	for _, value := range []string{"sam", "sam:sam", "1000", "1000:50", "sam:staff", "sam:1000"} {
		m, user, err := h.Remap(value)
		if err != nil || user != "sam" {
			t.Fatalf("%s: %v, %q", value, err, user)
		}
		for id, want := range map[uint32]uint32{0: 100000, 65535: 165535, 65536: 300000, 65545: 300009, 65546: Overflow} {
			if got := m.HostUID(id); got != want {
				t.Errorf("%s: user %d is %d, want %d", value, id, got, want)
			}
		}
		if got := m.HostGID(5); got != 200005 || m.LastGID() != 65535 {
			t.Errorf("%s: group 5 is %d, the last %d", value, got, m.LastGID())
		}
	}
	if m, user, err := h.Remap("0"); m != nil || user != "root" || err != nil {
		t.Errorf("root: %v %q %v", m, user, err)
	}
	for value, want := range map[string]string{
		"a:b:c":    `Invalid user/group specification in --userns-remap: "a:b:c"`,
		"nobody":   `Error during uid lookup for "nobody": no matching entries in passwd file`,
		"77":       `Uid 77 has no entry in /etc/passwd: no matching entries in passwd file`,
		"sam:x":    `Error during groupname lookup for "x": no matching entries in group file`,
		"sam:77":   `Gid 77 has no entry in /etc/group: no matching entries in group file`,
		"default":  `Error during "dockremap" user creation: no matching entries in passwd file`,
		"bare":     `Can't create ID mappings: no subuid ranges found for user "bare" in ` + h.Etc + "/subuid",
		"odd":      `Can't create ID mappings: ` + h.Etc + `/subuid: "odd:x:1" is no range of ids for user "odd"`,
		"":         `Error during uid lookup for "": no matching entries in passwd file`,
		"sam:":     `Error during groupname lookup for "": no matching entries in group file`,
		"default:": `Error during "dockremap" user creation: no matching entries in passwd file`,
	} {
		if _, _, err := h.Remap(value); err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", value, err, want)
		}
	}
}

func TestMakeUser(t *testing.T) {
	h := host(t)
	h.MakeUser = func(name string) error {
		for file, line := range map[string]string{"passwd": "::900:900::/:", "group": ":x:900:", "subuid": ":500000:65536", "subgid": ":500000:65536"} {
			path := filepath.Join(h.Etc, file)
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line = name + strings.Replace(line, "::900", ":x:900", 1) + "\n"
			if err := os.WriteFile(path, append(b, line...), 0o600); err != nil {
				return err
			}
		}
		return nil
	}
	if m, user, err := h.Remap("default"); err != nil || user != "dockremap" || m.HostUID(1) != 500001 {
		t.Fatalf("%v %q %v", m, user, err)
	}
}

func TestPool(t *testing.T) {
	p := &Pool{from: []span{{5000, 2048}, {100000, 1024}}}
	taken := map[uint32]*Map{}
	for _, want := range []uint32{5000, 6024, 100000} {
		m, err := p.Take(1024)
		if err != nil || m.HostUID(0) != want || m.HostGID(1023) != want+1023 || !m.Auto {
			t.Fatalf("took %+v, %v, want from %d", m, err, want)
		}
		taken[want] = m
	}
	if m, err := p.Take(1024); err == nil {
		t.Fatalf("a fourth range: %+v", m)
	}
	p.Give(taken[5000])
	if m, err := p.Take(1025); err == nil {
		t.Fatalf("a range in a gap too small: %+v", m)
	}
	if m, err := p.Take(1024); err != nil || m.HostUID(0) != 5000 {
		t.Fatalf("what was given back: %+v, %v", m, err)
	}
	q := &Pool{from: []span{{5000, 4096}}}
	q.Keep(taken[6024])
	q.Keep(&Map{UIDs: taken[5000].UIDs}) // of --userns-remap: not the pool's
	for _, want := range []uint32{5000, 7048} {
		if m, err := q.Take(1024); err != nil || m.HostUID(0) != want {
			t.Fatalf("beside what is kept: %+v, %v, want from %d", m, err, want)
		}
	}
}

func TestASharedRangeIsFreeWhenAllHaveGivenIt(t *testing.T) {
	p := &Pool{from: []span{{5000, 4096}}}
	m, err := p.Take(1024)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Share(m) || !p.Share(&Map{UIDs: m.UIDs}) {
		t.Fatal("not shared")
	}
	p.Give(m)
	if next, err := p.Take(1024); err != nil || next.HostUID(0) == m.HostUID(0) {
		t.Fatalf("%+v, %v: the range is somebody's", next, err)
	}
	p.Give(m)
	if p.Share(m) {
		t.Error("a range that nobody has is shared")
	}
	if next, err := p.Take(1024); err != nil || next.HostUID(0) != m.HostUID(0) {
		t.Fatalf("%+v, %v: the range is free", next, err)
	}
}

func TestAutoRange(t *testing.T) {
	h := host(t)
	for value, want := range map[string]span{"": {1001024, 3072}, "tare": {1001024, 3072}, "70000:2048": {70000, 2048}} {
		p, err := h.AutoRange(value)
		if err != nil || len(p.from) != 1 || p.from[0] != want {
			t.Errorf("%q: %+v, %v, want %v", value, p, err, want)
		}
	}
	if p, err := (Host{Etc: t.TempDir()}).AutoRange(""); err != nil || p.from[0].start != poolStart {
		t.Errorf("a host that says nothing: %+v, %v", p, err)
	}
	for _, file := range []string{"subuid", "subgid"} { // not the default for a typing error, or half of it
		bad := Host{Etc: t.TempDir()}
		if err := os.WriteFile(filepath.Join(bad.Etc, file), []byte("tare:5000OO:65536\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if p, err := bad.AutoRange(""); err == nil || !strings.Contains(err.Error(), "5000OO") {
			t.Errorf("%s with a typing error: %+v, %v", file, p, err)
		}
		half := Host{Etc: t.TempDir()}
		if err := os.WriteFile(filepath.Join(half.Etc, file), []byte("tare:500000:65536\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if p, err := half.AutoRange(""); err == nil {
			t.Errorf("%s alone: %+v", file, p)
		}
	}
	for _, value := range []string{"sam", "bare", "1:2", "70000:x", "4294967000:2000", "70000:4294967295"} {
		if p, err := h.AutoRange(value); err == nil {
			t.Errorf("%q: %+v", value, p)
		}
	}
}
