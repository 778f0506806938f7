package image

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
)

// reporter passes messages on, one at a time.
type reporter struct {
	quiet bool
	also  func(jsonstream.Message) // hears all as well; may be nil

	mu  sync.Mutex
	out func(jsonstream.Message)
}

func (r *reporter) say(m jsonstream.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != nil {
		r.out(m)
	}
	if r.also != nil {
		r.also(m)
	}
}

// status tells how far a layer is. The empty progress says that this is about a
// row on a terminal, and not a line.
func (r *reporter) status(id, text string) {
	r.say(jsonstream.Message{ID: id, Status: text, Progress: &jsonstream.Progress{}})
}

func (r *reporter) progress(id string, n, total int64) {
	if !r.quiet {
		r.say(jsonstream.Message{ID: id, Status: "Loading layer", Progress: &jsonstream.Progress{Current: n, Total: total}})
	}
}

// aux tells what clients take as a value and not as a text.
func (r *reporter) aux(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a type of ours that has no JSON
	}
	raw := json.RawMessage(b)
	r.say(jsonstream.Message{Aux: &raw})
}

// progress tells how far a layer has been read.
type progress struct {
	r     io.Reader
	ctx   context.Context // of one layer: reading stops when another one fails
	out   *reporter
	id    string
	n     int64
	total int64
	last  pace
}

func (p *progress) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.n += int64(n)
	if err == io.EOF || p.last.due() {
		p.out.progress(p.id, p.n, p.total)
	}
	return n, err
}

// pace is that of messages about progress: ten a second at most.
type pace struct{ last atomic.Int64 }

// due reports whether it is time for the next.
func (p *pace) due() bool {
	const apart = 100 * time.Millisecond
	now, last := time.Now().UnixNano(), p.last.Load()
	return now-last > int64(apart) && p.last.CompareAndSwap(last, now)
}
