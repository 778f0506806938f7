package target

import "fmt"

// Striped puts chunks on several devices in turn.
type Striped struct {
	ChunkSize uint64 // sectors
	Stripes   []Area
}

// Type is striped.
func (*Striped) Type() string { return "striped" }

// AppendParams appends NUMBER CHUNK, and DEVICE OFFSET of each stripe.
func (t *Striped) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%d %d", len(t.Stripes), t.ChunkSize)
	for _, s := range t.Stripes {
		b = s.append(append(b, ' '))
	}
	return b
}

// Validate asks for stripes and a chunk size.
func (t *Striped) Validate() error {
	if len(t.Stripes) == 0 || t.ChunkSize == 0 {
		return fmt.Errorf("target striped: %d stripes with chunks of %d sectors; neither can be 0", len(t.Stripes), t.ChunkSize)
	}
	for _, s := range t.Stripes {
		if err := s.check(); err != nil {
			return fmt.Errorf("target striped: %w", err)
		}
	}
	return nil
}

func (t *Striped) parse(w *words) {
	n := w.count("number of stripes")
	t.ChunkSize = w.number("chunk size")
	for range n {
		s := w.area("a stripe")
		if w.err != nil {
			return
		}
		t.Stripes = append(t.Stripes, s)
	}
}

// StripedStatus is the health of the stripes.
type StripedStatus struct {
	Devices []string
	Health  string // a letter for each: A (alive) or D (dead)
}

// AppendStatus appends NUMBER DEVICES 1 HEALTH.
func (s *StripedStatus) AppendStatus(b []byte) []byte {
	b = fmt.Appendf(b, "%d ", len(s.Devices))
	for _, d := range s.Devices {
		b = append(append(b, d...), ' ')
	}
	return append(append(b, "1 "...), s.Health...)
}

func (s *StripedStatus) parse(w *words) {
	s.Devices = w.list(w.count("number of stripes"), "device")
	if n := w.number("number of healths"); n != 1 {
		w.fail("there are %d healths", n)
	}
	s.Health = w.word("health")
}
