//go:build root

package mapped

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/store"
)

// Where the kernel has no device mapper that is said, and nothing is left.
func TestNoDeviceMapper(t *testing.T) {
	c, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if err == nil {
		c.Close()
		t.Skip("this kernel has device mapper")
	}
	dir := t.TempDir()
	d := New(Config{Dir: dir, Engine: engineID, Store: store.New()})
	defer d.Close()
	err = d.Make(t.Context(), dir, map[string]string{"size": "16m"})
	if !errdefs.Is(err, errdefs.NotImplemented) || !strings.Contains(err.Error(), "the kernel has no device mapper (module dm-mod)") {
		t.Error(err)
	}
	if err := d.Sweep(nil); err != nil {
		t.Error(err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Error(list, err)
	}
}

// After a volume has been made, mounted and unmounted, no copy of its key is in this
// program's memory, as bytes or digits.
func TestKeyIsNotInMemory(t *testing.T) {
	l := newLab(t)
	path := filepath.Join(t.TempDir(), "key")
	newKey := func() (inverse []byte) {
		t.Helper()
		if out, err := exec.Command("sh", "-c", "umask 077; head -c 64 /dev/urandom >"+path).CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
		key, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range key {
			key[i] ^= 0xff
		}
		return key
	}
	inverse := newKey()
	l.mustCreate("file", "target=crypt", "size=16m", "keyfile="+path)
	l.mount("file", "c")
	if n := inMemory(t, inverse); n > 0 {
		t.Errorf("the key of a file is in memory %d times", n)
	}
	l.unmount("file", "c")
	l.remove("file")
	inverse = newKey()
	l.mustCreate("brought", "target=crypt", "size=16m")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Unlock(t.Context(), "brought", key); err != nil {
		t.Fatal(err)
	}
	if n := inMemory(t, inverse); n == 0 {
		t.Error("the search does not find the caller's copy")
	}
	clear(key)
	l.mount("brought", "c")
	if n := inMemory(t, inverse); n > 0 {
		t.Errorf("a key that was brought is in memory %d times", n)
	}
	l.unmount("brought", "c")
	l.remove("brought")
}

// inMemory counts copies of a key, of which the inverse is given, in what can be written of
// this program's memory.
func inMemory(t *testing.T, inverse []byte) (n int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	digits := func(i int) byte { return hex.EncodeToString([]byte{^inverse[i/2]})[i%2] ^ 0xff }
	inverseHex := make([]byte, 2*len(inverse))
	for i := range inverseHex {
		inverseHex[i] = digits(i)
	}
	buf := make([]byte, 1<<20)
	for s := bufio.NewScanner(strings.NewReader(string(maps))); s.Scan(); {
		var from, to uint64
		var rights string
		if _, err := fmt.Sscanf(s.Text(), "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		for at := from; at < to; at += uint64(len(buf) / 2) {
			got, _ := mem.ReadAt(buf, int64(at))
			n += count(buf[:got], inverse) + count(buf[:got], inverseHex)
		}
	}
	clear(buf)
	return n
}

// count finds what has the inverse, from its second 16 bytes on: a part would do.
func count(b, inverse []byte) (n int) {
	part := inverse[16:48]
next:
	for i := 0; i+len(part) <= len(b); i++ {
		for j := range part {
			if b[i+j]^0xff != part[j] {
				continue next
			}
		}
		n++
	}
	return n
}
