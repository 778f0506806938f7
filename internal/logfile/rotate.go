package logfile

import (
	"cmp"
	"compress/gzip"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

const (
	newSuffix = ".new"    // the next live file before it has its name
	tmpSuffix = ".gz.tmp" // a compressed file before it has its name
)

// rotate gives the live file the name .1 and begins the next generation, whose
// first line bears the time now.
//
// The order is what readers rely on: the file is complete before its successor
// exists; the successor is in the index before any name changes; so at every
// moment each generation of the index is under some name in the directory, and
// settle can finish what a crash interrupted.
func (w *Writer) rotate(now int64) error {
	next, err := w.dir.OpenFile(w.name+newSuffix, os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fi, err := next.Stat()
	if err != nil {
		next.Close()
		return err
	}
	m := mark{Generation: w.gen + 1, Inode: inodeOf(fi), Time: now}
	oldest := max(w.gen+2, uint64(w.o.MaxFiles)+1) - uint64(w.o.MaxFiles)
	marks := append(slices.Clone(w.marks.from(oldest)), m)
	if err := replaceIndex(w.dir, w.name, marks); err != nil {
		next.Close()
		w.dir.Remove(w.name + newSuffix)
		return err
	}
	if _, err := settle(w.dir, w.name, marks); err != nil {
		next.Close()
		return err
	}
	w.file.Close()
	w.file, w.marks, w.gen, w.size, w.lines, w.retry = next, marks, m.Generation, 0, 0, 0
	if w.o.Compress && w.o.MaxFiles > 1 {
		// Failing leaves the plain file, which is as good.
		_ = w.compress()
	}
	if w.marksFile != nil {
		w.marksFile.Close()
	}
	w.openMarks(w.dir)
	return nil
}

// compress replaces the newest rotated file by its gzip form.
func (w *Writer) compress() error {
	plain := w.name + ".1"
	inode, err := gzipFile(w.dir, plain, w.name+tmpSuffix)
	if err != nil {
		w.dir.Remove(w.name + tmpSuffix)
		return err
	}
	marks := slices.Clone(w.marks)
	for i := range marks {
		if marks[i].Generation == w.gen-1 {
			marks[i].Inode = inode
		}
	}
	if err := replaceIndex(w.dir, w.name, marks); err != nil {
		w.dir.Remove(w.name + tmpSuffix)
		return err
	}
	w.marks = marks
	if err := w.dir.Rename(w.name+tmpSuffix, plain+".gz"); err != nil {
		return err
	}
	return w.dir.Remove(plain)
}

func gzipFile(dir *os.Root, from, to string) (inode uint64, err error) {
	in, err := dir.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := dir.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(z, in); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	fi, err := out.Stat()
	if err != nil {
		return 0, err
	}
	return inodeOf(fi), nil
}

// entry is one file of a log on disk.
type file struct {
	name  string
	gen   uint64 // 0: the index does not name it
	age   int    // the number in its name; 0 is the live file, -1 the next one
	inode uint64
	gz    bool
}

// list returns the files of a log, oldest name first, with the generations
// that the index gives them.
func list(dir *os.Root, name string, marks index) ([]file, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, n := range names {
		f, ok := parseName(name, n)
		if !ok {
			continue
		}
		fi, err := dir.Lstat(n)
		if err != nil || !fi.Mode().IsRegular() {
			continue // renamed meanwhile, or not ours
		}
		f.inode = inodeOf(fi)
		f.gen = marks.generation(f.inode)
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(b.age, a.age) })
	return files, nil
}

// parseName says which file of the log called name n is, if it is one.
func parseName(name, n string) (file, bool) {
	rest, ok := strings.CutPrefix(n, name)
	switch {
	case !ok:
		return file{}, false
	case rest == "":
		return file{name: n}, true
	case rest == newSuffix:
		return file{name: n, age: -1}, true
	case rest == tmpSuffix:
		return file{name: n, age: 1, gz: true}, true
	}
	num, gz := strings.CutSuffix(rest, ".gz")
	age, err := strconv.Atoi(strings.TrimPrefix(num, "."))
	if err != nil || age < 1 || num != "."+strconv.Itoa(age) {
		return file{}, false
	}
	return file{name: n, age: age, gz: gz}, true
}

// settle gives every file the name that the index implies and removes those
// that it does not name: the last part of a rotation, and its repair after a
// crash. A log without an index keeps its files; they are numbered here.
func settle(dir *os.Root, name string, marks index) (index, error) {
	files, err := list(dir, name, marks)
	if err != nil {
		return nil, err
	}
	if len(marks) == 0 {
		return adoptFiles(dir, name, files)
	}
	newest := marks.newest()
	for _, f := range files { // oldest first, so that no rename meets a file
		if f.gen == 0 {
			if f.age != 0 { // a live file that is not ours gets a generation of its own
				err = dir.Remove(f.name)
			}
		} else if to := nameOf(name, int(newest-f.gen), f.gz); to != f.name {
			err = dir.Rename(f.name, to)
		}
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
	}
	return marks, nil
}

func nameOf(name string, age int, gz bool) string {
	if age > 0 {
		name += "." + strconv.Itoa(age)
		if gz {
			name += ".gz"
		}
	}
	return name
}

// adoptFiles numbers the files of a log that has no index.
func adoptFiles(dir *os.Root, name string, files []file) (index, error) {
	var marks index
	for _, f := range files {
		if f.age < 0 || strings.HasSuffix(f.name, tmpSuffix) {
			if err := dir.Remove(f.name); err != nil {
				return nil, err
			}
			continue
		}
		marks = append(marks, mark{Generation: marks.newest() + 1, Inode: f.inode})
	}
	if len(marks) == 0 {
		return nil, nil
	}
	return marks, replaceIndex(dir, name, marks)
}

func inodeOf(fi os.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
