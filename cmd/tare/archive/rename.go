package archive

import (
	"archive/tar"
	"bufio"
	"errors"
	"io"
)

// Rename copies a tar stream in which from, the name of the top, becomes to. That
// of a directory's content, "." or "/", keeps nothing above it.
func Rename(out io.Writer, in io.Reader, from, to string) error {
	if from == to {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, in, make([]byte, 256<<10))
		return err
	}
	r, b := tar.NewReader(bufio.NewReaderSize(in, 256<<10)), bufio.NewWriterSize(out, 256<<10)
	w := tar.NewWriter(b)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		dir := h.Typeflag == tar.TypeDir
		h.Name = Renamed(h.Name, from, to)
		if dir {
			h.Name += "/"
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = Renamed(h.Linkname, from, to)
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 32<<10)); err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), b.Flush())
}
