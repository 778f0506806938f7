package spec

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
)

func TestLookupUser(t *testing.T) {
	root := rootWith(t, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup})
	for _, c := range []struct {
		user   string
		add    []string
		want   specs.User
		home   string
		failed string
	}{
		{"", nil, specs.User{AdditionalGids: []uint32{0, 10}}, "/root", ""},
		{"root", nil, specs.User{AdditionalGids: []uint32{0, 10}}, "/root", ""},
		{"app", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 10, 999}}, "/home/app", ""},
		// An entry whose name is the number does not count, its number does.
		{"1000", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 10, 999}}, "/home/app", ""},
		{"app:", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 10, 999}}, "/home/app", ""},
		{"app:wheel", nil, specs.User{UID: 1000, GID: 10, AdditionalGids: []uint32{10}}, "/home/app", ""},
		{"app:1001", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001}}, "/home/app", ""},
		{"77", nil, specs.User{UID: 77, AdditionalGids: []uint32{0}}, "/", ""},
		{"77:88", []string{"docker", "5", "88"}, specs.User{UID: 77, GID: 88, AdditionalGids: []uint32{88, 999, 5}}, "/", ""},
		{"2147483647", nil, specs.User{UID: 1<<31 - 1, AdditionalGids: []uint32{0}}, "/", ""},
		{user: "nosuch", failed: "unable to find user nosuch: no matching entries in passwd file"},
		{user: "broken", failed: "unable to find user broken"},
		{user: "neg", failed: "unable to find user neg"},
		{user: "app:nosuch", failed: "unable to find group nosuch: no matching entries in group file"},
		{user: "app", add: []string{"nosuch"}, failed: "unable to find group nosuch"},
		{user: "-1", failed: "uids and gids must be in range 0-2147483647"},
		{user: "4294967296", failed: "uids and gids must be in range"},
		{user: "99999999999999999999", failed: "uids and gids must be in range"},
		{user: "0:4294967295", failed: "uids and gids must be in range"},
	} {
		u, err := lookupUser(root, c.user, c.add)
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) || !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%q: %v", c.user, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.user, err)
			continue
		}
		if d := cmp.Diff(c.want, u.User); d != "" || u.Home != c.home {
			t.Errorf("%q: home %s, %s", c.user, u.Home, d)
		}
	}
}

func TestLookupUserWithoutFiles(t *testing.T) {
	u, err := lookupUser(rootWith(t, nil), "5:6", []string{"7"})
	if err != nil || u.UID != 5 || u.GID != 6 || len(u.AdditionalGids) != 2 || u.Home != "/" {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestLookupUserIsBounded feeds it what hangs or fills a careless reader.
func TestLookupUserIsBounded(t *testing.T) {
	for name, spoil := range map[string]func(p string) error{
		"fifo":     func(p string) error { return syscall.Mkfifo(p, 0o644) },
		"device":   func(p string) error { return os.Symlink("/dev/zero", p) },
		"loop":     func(p string) error { return os.Symlink("passwd", p) },
		"too long": func(p string) error { return os.WriteFile(p, nil, 0o644) },
	} {
		root := rootWith(t, map[string]string{"etc/group": ""})
		p := filepath.Join(root.Name(), "etc/passwd")
		if err := spoil(p); err != nil {
			t.Fatal(err)
		}
		if name == "too long" {
			if err := os.Truncate(p, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := lookupUser(root, "app", nil); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLookupUserStaysInTheRoot(t *testing.T) {
	root := rootWith(t, map[string]string{"etc/x": ""})
	if err := os.Symlink("/etc/passwd", filepath.Join(root.Name(), "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	if u, err := lookupUser(root, "root", nil); err == nil {
		t.Errorf("found %+v in the host's file", u)
	}
}

func FuzzPasswdGroup(f *testing.F) {
	f.Add(testPasswd, testGroup, "app:wheel")
	f.Add("a:b:1:2", "g:x:3:a", "a")
	f.Add("", "", "0:0")
	f.Fuzz(func(t *testing.T, passwd, group, user string) {
		u, entry, err := findUser([]byte(passwd), user)
		if err != nil {
			return
		}
		if id, numeric, _ := parseID(user); numeric && u.UID != id {
			t.Errorf("%q became %d", user, u.UID)
		}
		groupsListing([]byte(group), entry)
		if gid, err := findGroup([]byte(group), user); err == nil && gid > maxID {
			t.Errorf("group %d", gid)
		}
	})
}
