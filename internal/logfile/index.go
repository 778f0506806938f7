package logfile

import (
	"encoding/binary"
	"io"
	"os"
	"slices"
)

// mark is one record of the index: at Offset of the generation a line begins;
// Lines lines come before it in that generation, and it bears Time (Unix
// nanoseconds). The first mark of a generation has offset 0 and says its inode
// (that of the compressed file once there is one; offsets stay as they were).
type mark struct {
	Generation uint64
	Inode      uint64
	Offset     int64
	Lines      int64
	Time       int64
}

// index is the marks of a log in order.
type index []mark

const (
	markSize   = 40
	indexMagic = "tarelog1"
	// A mark each 256 KiB: 80 for a file of the default size, and a reader looks
	// through less than a millisecond's worth of text to find a line.
	markEvery = 256 << 10
	// An index larger than this is not one: 2 million marks are 500 GB of log.
	maxIndex = 80 << 20
)

func (m mark) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, m.Generation)
	b = binary.LittleEndian.AppendUint64(b, m.Inode)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Lines))
	return binary.LittleEndian.AppendUint64(b, uint64(m.Time))
}

// parseIndex takes what is whole and sane of b; an index is a help, never a
// condition, so damage only costs speed.
func parseIndex(b []byte) index {
	if len(b) < len(indexMagic) || string(b[:len(indexMagic)]) != indexMagic {
		return nil
	}
	b = b[len(indexMagic):]
	x := make(index, 0, len(b)/markSize)
	for ; len(b) >= markSize; b = b[markSize:] {
		m := mark{
			Generation: binary.LittleEndian.Uint64(b),
			Inode:      binary.LittleEndian.Uint64(b[8:]),
			Offset:     int64(binary.LittleEndian.Uint64(b[16:])),
			Lines:      int64(binary.LittleEndian.Uint64(b[24:])),
			Time:       int64(binary.LittleEndian.Uint64(b[32:])),
		}
		if m.Offset < 0 || m.Lines < 0 || m.Generation == 0 || !x.follows(m) {
			break
		}
		x = append(x, m)
	}
	return x
}

// follows reports whether m may stand after the marks of x.
func (x index) follows(m mark) bool {
	if len(x) == 0 {
		return true
	}
	last := x[len(x)-1]
	if m.Generation != last.Generation {
		return m.Generation > last.Generation && m.Offset == 0
	}
	return m.Offset >= last.Offset && m.Lines >= last.Lines
}

func (x index) encode() []byte {
	b := append(make([]byte, 0, len(indexMagic)+len(x)*markSize), indexMagic...)
	for _, m := range x {
		b = m.append(b)
	}
	return b
}

// generation returns the generation of the file with the inode, 0 if the index
// does not name it.
func (x index) generation(inode uint64) uint64 {
	for _, m := range x {
		if m.Offset == 0 && m.Inode == inode {
			return m.Generation
		}
	}
	return 0
}

// newest returns the highest generation, 0 for an empty index.
func (x index) newest() uint64 {
	if len(x) == 0 {
		return 0
	}
	return x[len(x)-1].Generation
}

// of returns the marks of one generation.
func (x index) of(gen uint64) index {
	i := slices.IndexFunc(x, func(m mark) bool { return m.Generation == gen })
	if i < 0 {
		return nil
	}
	j := i
	for j < len(x) && x[j].Generation == gen {
		j++
	}
	return x[i:j]
}

// generations returns how many generations the marks are of.
func (x index) generations() int {
	n := 0
	for i, m := range x {
		if i == 0 || m.Generation != x[i-1].Generation {
			n++
		}
	}
	return n
}

// from returns the marks of the generations not below gen.
func (x index) from(gen uint64) index {
	i := slices.IndexFunc(x, func(m mark) bool { return m.Generation >= gen })
	if i < 0 {
		return nil
	}
	return x[i:]
}

func indexName(name string) string { return name + ".index" }

// loadIndex reads the index; none and a damaged one are an empty index.
func loadIndex(dir *os.Root, name string) index {
	f, err := dir.Open(indexName(name))
	if err != nil {
		return nil
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxIndex))
	if err != nil {
		return nil
	}
	return parseIndex(b)
}

// replaceIndex puts a new index in the place of the old in one step.
func replaceIndex(dir *os.Root, name string, x index) error {
	tmp := indexName(name) + ".tmp"
	if err := writeFile(dir, tmp, x.encode()); err != nil {
		return err
	}
	return dir.Rename(tmp, indexName(name))
}

func writeFile(dir *os.Root, name string, b []byte) error {
	f, err := dir.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
