package dataroot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/tare-engine/tare/internal/linux/inroot"
)

// assemble writes a tar archive anew: its headers and padding are in split, the
// packed lines of tar-split, and the data of its files in the directory files.
func assemble(ctx context.Context, files, split *os.File, out io.Writer) error {
	z, err := gzip.NewReader(bufio.NewReader(split))
	if err != nil {
		return fmt.Errorf("%s: %w", split.Name(), err)
	}
	defer z.Close()
	p := &parts{ctx: ctx, files: files, split: split.Name(), lines: bufio.NewScanner(z)}
	p.lines.Buffer(nil, maxLine)
	return asm.WriteOutputTarStream(p, p, out)
}

// maxLine is how long a line of tar-split may be: the headers of a file, which
// have 1 MiB at most where Go's archive/tar has read them, or the padding at the
// end of the archive, in base64.
const maxLine = 16 << 20

// parts are the parts of an archive in their order.
type parts struct {
	ctx   context.Context
	files *os.File
	split string
	lines *bufio.Scanner
	size  int64 // of the file whose turn it is
}

// Next returns the next part.
func (p *parts) Next() (*storage.Entry, error) {
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	if !p.lines.Scan() {
		if err := p.lines.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.split, err)
		}
		return nil, io.EOF
	}
	e := new(storage.Entry)
	if err := json.Unmarshal(p.lines.Bytes(), e); err != nil {
		return nil, fmt.Errorf("%s: %w", p.split, err)
	}
	p.size = e.Size
	return e, nil
}

// Get opens the data of the file whose turn it is. Directories on the way to it
// may be links: Docker has unpacked the archive in this root, by the same rules.
func (p *parts) Get(name string) (io.ReadCloser, error) {
	at := path.Clean(strings.TrimLeft(name, "/"))
	if at == "." || at == ".." || strings.HasPrefix(at, "../") {
		return nil, fmt.Errorf("%s: the file name %.300q leads out of the layer", p.split, name)
	}
	f, err := inroot.OpenRegular(p.files, at)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != p.size {
		err = fmt.Errorf("%.300q has %d bytes, %d when it was unpacked", name, info.Size(), p.size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &data{f, p.ctx, io.LimitReader(f, p.size)}, nil
}

// data is the data of a file, as much as there was when it was opened.
type data struct {
	io.Closer
	ctx context.Context
	r   io.Reader
}

func (d *data) Read(b []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	return d.r.Read(b)
}
