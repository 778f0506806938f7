// Package logfile is the log of one container on disk: its lines in Docker's
// json-file format or as text, its rotation, and a sparse index beside it.
//
// A log is a directory (with the format Text its files are called local.log):
//
//	ID-json.log        the live file: one JSON object a line
//	ID-json.log.1      the file before it, and so on; .gz if compressed
//	ID-json.log.index  generation, inode, time and offset now and then
//
// Each file is a generation, numbered from 1 and never again. Rotation renames
// and never truncates, so a reader that holds a generation open finishes it and
// then takes the next; the index says which file, by inode, is which generation,
// and it is replaced before the files change their names. A Position (generation
// and offset) therefore stays true for as long as the bytes exist.
//
// An Entry is one line of output, or a piece of 16 KiB of a longer one: a piece
// that does not end the line has no newline at its end, as in Docker.
//
// The keeper writes (Writer), the engine reads (Reader); neither locks the
// other out. The package uses the standard library only.
package logfile

import "time"

// Stream says where a line came from. The numbers are those of Docker's stream
// framing.
type Stream byte

// Streams of a process.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// Position is a place in a log: everything before it is in generations below
// Generation, or in it and before Offset. The zero Position is the beginning.
type Position struct {
	Generation uint64
	Offset     int64
}

// Before reports whether p comes before q.
func (p Position) Before(q Position) bool {
	return p.Generation < q.Generation || p.Generation == q.Generation && p.Offset < q.Offset
}

// Entry is one line of the log. Its slices are valid until the next one is read.
type Entry struct {
	Line   []byte // with its newline, unless it is a piece of a longer line
	Stream Stream
	Time   time.Time
	Attrs  []byte   // the raw JSON object of the attributes; nil if there are none
	End    Position // where the next entry begins
}

// Name returns the name of a container's live log file.
func Name(id string, f Format) string {
	if f == Text {
		return "local.log"
	}
	return id + "-json.log"
}

// maxLine is where Docker cuts a line into pieces.
const maxLine = 16 << 10
