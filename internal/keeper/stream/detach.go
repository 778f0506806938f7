package stream

// detachKeys looks for a client's detach keys in what it types. The keys seen so
// far are held back, and passed on when they turn out to be something else.
type detachKeys struct {
	keys []byte
	seen int // how many of them have been typed
}

// filter returns what of p goes on to the process, appended to dst, and whether
// the keys are complete; what follows them is dropped.
func (d *detachKeys) filter(dst, p []byte) (out []byte, found bool) {
	if len(d.keys) == 0 {
		return append(dst, p...), false
	}
	for _, c := range p {
		for d.seen > 0 && d.keys[d.seen] != c {
			// The longest end of what was held back may still be a beginning.
			n := d.border(d.seen)
			dst = append(dst, d.keys[:d.seen-n]...)
			d.seen = n
		}
		if d.keys[d.seen] != c {
			dst = append(dst, c)
			continue
		}
		if d.seen++; d.seen == len(d.keys) {
			d.seen = 0
			return dst, true
		}
	}
	return dst, false
}

// border returns the length of the longest proper prefix of the first n keys
// that is also their end.
func (d *detachKeys) border(n int) int {
	for k := n - 1; k > 0; k-- {
		if string(d.keys[:k]) == string(d.keys[n-k:n]) {
			return k
		}
	}
	return 0
}
