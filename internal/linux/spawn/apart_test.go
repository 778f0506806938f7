package spawn

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteApart(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list [][]byte
	var want bytes.Buffer
	for i := range 2*atOnce + 1 {
		m := []byte(fmt.Sprintln("message", i))
		list = append(list, m)
		want.Write(m)
	}
	if err := WriteApart(int(f.Fd()), list); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes (%v), want %d", len(got), err, want.Len())
	}
	r, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := WriteApart(int(r.Fd()), list); !errors.Is(err, syscall.EBADF) {
		t.Errorf("to a file that is open for reading: %v", err)
	}
}
