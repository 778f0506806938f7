package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// Pack writes a source as a tar stream, under a name. A file that grows meanwhile
// is cut off, one that shrinks is filled up with zeros, one that vanishes is left
// out. A socket is nothing that can be copied.
func (l Local) Pack(out io.Writer, name string) error {
	p := packer{tar: tar.NewWriter(out), linked: map[inode]string{}, buffer: make([]byte, 256<<10)}
	st, err := os.Lstat(l.path)
	if err != nil {
		return err
	}
	if err := p.entry(l.path, name, st); err != nil {
		return err
	}
	return p.tar.Close()
}

type packer struct {
	tar    *tar.Writer
	linked map[inode]string // the first names of files that have several
	buffer []byte
}

func (p *packer) entry(at, name string, st fs.FileInfo) error {
	h, err := p.header(at, name, st)
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag == tar.TypeReg {
		return p.file(at, h)
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return p.dir(at, name)
	}
	return nil
}

func (p *packer) dir(at, name string) error {
	entries, err := os.ReadDir(at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = p.entry(filepath.Join(at, e.Name()), below(name, e.Name()), st)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// below keeps "." as it is, and so tells the receiver what it stands for.
func below(name, base string) string {
	if name == "/" {
		return "/" + base
	}
	return name + "/" + base
}

// header describes a file; nil if no archive has such.
func (p *packer) header(at, name string, st fs.FileInfo) (*tar.Header, error) {
	h := &tar.Header{Name: name, Mode: tarMode(st.Mode()), ModTime: time.Unix(st.ModTime().Unix(), 0), Format: tar.FormatPAX}
	id, several := describe(h, st)
	if first, ok := p.linked[id]; ok && several {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return h, nil
	}
	switch m := st.Mode(); {
	case m.IsRegular():
		h.Typeflag, h.Size = tar.TypeReg, st.Size()
	case m.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, path.Clean(name)+"/"
		if h.Name == "//" {
			h.Name = "/"
		}
	case m&fs.ModeSymlink != 0:
		to, err := os.Readlink(at)
		if err != nil {
			return nil, err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, filepath.ToSlash(to)
	case m&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
	case m&fs.ModeCharDevice != 0:
		h.Typeflag = tar.TypeChar
	case m&fs.ModeDevice != 0:
		h.Typeflag = tar.TypeBlock
	default:
		return nil, nil
	}
	if several {
		p.linked[id] = name
	}
	return h, nil
}

// tarMode are permissions and the three bits above them.
func tarMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	return mode
}

// file writes a regular file, which is opened before its header is out: what has
// gone has none.
func (p *packer) file(at string, h *tar.Header) error {
	f, err := openFile(at)
	if err != nil {
		return err
	}
	defer f.Close()
	readAttributes(f, h)
	if err := p.tar.WriteHeader(h); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		b := p.buffer[:min(left, int64(len(p.buffer)))]
		n, err := io.ReadFull(f, b)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF): // it was cut off meanwhile
			clear(b[n:])
		case err != nil:
			return fmt.Errorf("read %s: %w", at, err)
		}
		if _, err := p.tar.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	return nil
}
