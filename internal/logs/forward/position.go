package forward

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/tare-engine/tare/internal/logfile"
)

// position is how far a receiver has a log.
type position struct {
	Generation uint64
	Offset     int64
	Pieces     [2]pieces // of unfinished lines of stdout and stderr
}

// pieces are those of one long line that the receiver has.
type pieces struct {
	Generation uint64 // where the line begins
	Offset     int64
	Ordinal    int // of the last piece; 0: there is no unfinished line
}

func (p position) log() logfile.Position {
	return logfile.Position{Generation: p.Generation, Offset: p.Offset}
}

// positionSize is that of the file: one write of less than a sector replaces all of it, so
// that a kill leaves the old or the new one.
const positionSize = 512

// readPosition reads the file; where it is not there or damaged, the log is sent from its
// beginning: twice rather than never.
func readPosition(path string) (p position) {
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &p) != nil {
		return position{}
	}
	return p
}

// write is not synced: after a power cut an old position means lines twice.
func (p position) write(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b = append(b, bytes.Repeat([]byte{' '}, positionSize-1-len(b))...)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, '\n'), 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
