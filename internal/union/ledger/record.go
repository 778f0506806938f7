package ledger

import "encoding/binary"

// Records are some that are to be appended together.
type Records struct {
	b  []byte
	at int // where the one being written begins
}

// Len is their size.
func (r *Records) Len() int { return len(r.b) }

// Begin begins one.
func (r *Records) Begin(kind byte) *Records {
	r.at = len(r.b)
	r.b = append(r.b, 0, 0, 0, 0, kind)
	return r
}

// Int adds a number to it.
func (r *Records) Int(v uint64) *Records {
	r.b = binary.AppendUvarint(r.b, v)
	return r
}

// Bool adds yes or no to it.
func (r *Records) Bool(v bool) *Records {
	if v {
		return r.Int(1)
	}
	return r.Int(0)
}

// String adds text to it.
func (r *Records) String(s string) *Records {
	r.b = append(binary.AppendUvarint(r.b, uint64(len(s))), s...)
	return r
}

// End ends it.
func (r *Records) End() {
	binary.LittleEndian.PutUint32(r.b[r.at:], uint32(len(r.b)-r.at-4))
}

// Record is one that is read, in the order in which it was written. What is not
// there reads as zero, and makes Ledger.Read fail.
type Record struct {
	Kind byte
	b    []byte
	err  error
}

// Int reads a number.
func (r *Record) Int() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.err = nil, errDamaged
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Bool reads yes or no.
func (r *Record) Bool() bool { return r.Int() != 0 }

// String reads text.
func (r *Record) String() string {
	n := r.Int()
	if n > uint64(len(r.b)) {
		r.b, r.err = nil, errDamaged
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// More reports whether there is more to read in the record.
func (r *Record) More() bool { return len(r.b) > 0 }
