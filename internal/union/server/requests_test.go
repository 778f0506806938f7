package server

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// offline makes a server that no kernel asks.
func offline(t testing.TB) (*fuse.ProtocolServer, *tree.Tree) {
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, p := range []string{"ro/f", "ro/d/g"} {
			if b, err := os.ReadFile(filepath.Join(dir, p)); string(b) != "data" {
				t.Errorf("%s is %q (%v)", p, b, err)
			}
		}
	})
	for _, p := range []string{"rw", "ro/d"} {
		if err := os.MkdirAll(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"ro/f", "ro/d/g", "rw/h"} {
		if err := os.WriteFile(filepath.Join(dir, p), []byte("data"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var sources []tree.Source
	for i, name := range []string{"rw", "ro"} {
		fd, err := dirat.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, tree.Source{Branch: union.Branch{Dir: "/" + name, Perm: union.Perm(i)}, Root: fd})
	}
	tr, err := tree.Open(sources, union.Defaults(), 64)
	if err != nil {
		t.Fatal(err)
	}
	l, err := ledger.New(Buffer)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Record(l); err != nil {
		t.Fatal(err)
	}
	s := newServer(tr, -1, l)
	s.backings.off = true
	t.Cleanup(func() { s.Close(); l.Close() })
	w := s.newWorker(l.Cell(0))
	w.intent = tree.IntentAt(w.cell.Intent())
	o := options()
	o.PanicHandler = func(what any) fuse.Status {
		t.Errorf("panic: %v", what)
		return fuse.EIO
	}
	return fuse.NewProtocolServer(w, o), tr
}

// request writes one with its header: operation, node, body.
func request(op uint32, node uint64, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(40+len(body)))
	b = binary.LittleEndian.AppendUint32(b, op)
	b = binary.LittleEndian.AppendUint64(b, 7)
	b = binary.LittleEndian.AppendUint64(b, node)
	return append(append(b, make([]byte, 16)...), body...)
}

func ask(s *fuse.ProtocolServer, b []byte) (int32, []byte) {
	head, out := make([]byte, 160), make([]byte, 64<<10)
	s.HandleRequest([][]byte{b}, [][]byte{head, out})
	return int32(binary.LittleEndian.Uint32(head[4:])), head
}

const (
	opLookup = 1
	opInit   = 26
)

func initBody() []byte {
	b := binary.LittleEndian.AppendUint32(nil, 7)
	b = binary.LittleEndian.AppendUint32(b, 38)
	return append(b, make([]byte, 56)...)
}

// TestLookupRequest makes sure that the requests of the fuzz target reach the tree.
func TestLookupRequest(t *testing.T) {
	s, tr := offline(t)
	if code, _ := ask(s, request(opInit, 0, initBody())); code != 0 {
		t.Fatalf("init: %d", code)
	}
	if code, _ := ask(s, request(opLookup, 1, []byte("f\x00"))); code != 0 {
		t.Errorf("lookup: %d", code)
	}
	if tr.Len() != 2 {
		t.Errorf("%d nodes", tr.Len())
	}
	if code, _ := ask(s, request(opLookup, 99, []byte("f\x00"))); code != -116 { // ESTALE
		t.Errorf("lookup in a node that is not there: %d", code)
	}
}

// FuzzRequests sends requests as no kernel would: whatever they are, the server
// does not panic, and the read-only branch stays as it is.
func FuzzRequests(f *testing.F) {
	for op := byte(1); op < 53; op++ {
		f.Add([]byte{op, 1, 2, 'f', 0, 'x', 0, op, 2, 60, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	}
	f.Add([]byte{1, 1, 2, 'f', 0, 14, 2, 8, 2, 0, 0, 0, 0, 0, 0, 0, 15, 2, 40, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, _ := offline(t)
		ask(s, request(opInit, 0, initBody()))
		for len(b) >= 3 { // operation, node, length of the body
			op, node, n := uint32(b[0]), uint64(b[1]), int(b[2])
			n = min(n, len(b)-3)
			if op == opInit || op == 38 { // the connection's begin and end
				op = opLookup
			}
			ask(s, request(op, node, b[3:3+n]))
			b = b[3+n:]
		}
	})
}
