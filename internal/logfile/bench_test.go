package logfile

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"
)

func BenchmarkWrite(b *testing.B) {
	for name, line := range map[string]string{
		"100": strings.Repeat("The quick brown fox ", 5)[:99] + "\n",
		"20":  "short line of text.\n", "binary": string(randomBytes(4096))} {
		b.Run(name, func(b *testing.B) {
			dir := "/dev/shm"
			tmp, err := os.MkdirTemp(dir, "logfile")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(tmp)
			w := openLog(b, tmp, Options{MaxSize: 20 << 20, MaxFiles: 5})
			chunk := bytes.Repeat([]byte(line), 65536/len(line)+1)[:65536]
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				if err := w.Write(Stdout, chunk, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func randomBytes(n int) []byte {
	x, b := uint32(1), make([]byte, n)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func BenchmarkRead(b *testing.B) {
	tmp, err := os.MkdirTemp("/dev/shm", "logfile")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	w := openLog(b, tmp, Options{})
	line := strings.Repeat("The quick brown fox ", 5)[:99] + "\n"
	chunk := bytes.Repeat([]byte(line), 655)
	const chunks = 400
	for range chunks {
		if err := w.Write(Stdout, chunk, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(chunks * len(chunk)))
	for b.Loop() {
		root, err := os.OpenRoot(tmp)
		if err != nil {
			b.Fatal(err)
		}
		r, err := Open(root, testName)
		if err != nil {
			b.Fatal(err)
		}
		var e Entry
		n := 0
		for r.Next(&e) == nil {
			n += len(e.Line)
		}
		if n != chunks*len(chunk) {
			b.Fatalf("read %d bytes", n)
		}
		r.Close()
	}
}
