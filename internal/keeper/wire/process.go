package wire

import (
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
)

// ProcessDoc carries a process; Streams says which descriptors came along, in
// the order of Files.
type ProcessDoc struct {
	Process
	Streams [4]bool
}

// Pack notes which files there are and returns those.
func (d *ProcessDoc) Pack(f Files) (there []*os.File) {
	for i, x := range f.list() {
		if d.Streams[i] = x != nil; x != nil {
			there = append(there, x)
		}
	}
	return there
}

// Unpack takes the files that Pack noted from the front of files.
func (d *ProcessDoc) Unpack(files []*os.File) (rest []*os.File, err error) {
	for i, to := range []**os.File{&d.Stdin, &d.Stdout, &d.Stderr, &d.Master} {
		if !d.Streams[i] {
			continue
		}
		if len(files) == 0 {
			return nil, errdefs.New(errdefs.InvalidArgument, "process %s came without its streams", d.ID)
		}
		*to, files = files[0], files[1:]
	}
	return files, nil
}

// CloseFiles closes descriptors that came with a message.
func CloseFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
