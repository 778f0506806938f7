package target

import (
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Verity is a read-only device whose blocks are compared with a tree of hashes when
// they are read.
type Verity struct {
	Version                  uint64 // 1; 0 is that of Chromium OS
	Data, Hash               string
	DataBlockSize, HashBlock uint64 // bytes
	Blocks, HashStart        uint64 // of data; where the tree begins, in blocks
	Algorithm                string
	Digest                   string // of the tree's root, in hexadecimal
	Salt                     string // in hexadecimal, or -
	// Options are ignore_corruption, restart_on_corruption, panic_on_corruption,
	// ignore_zero_blocks, check_at_most_once, those of error correction
	// (use_fec_from_device, fec_roots, fec_blocks, fec_start), root_hash_sig_key_desc,
	// try_verify_in_tasklet.
	Options Args
}

// Type is verity.
func (*Verity) Type() string { return "verity" }

// AppendParams appends them in this order.
func (t *Verity) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%d %s %s %d %d %d %d %s %s %s", t.Version, t.Data, t.Hash, t.DataBlockSize, t.HashBlock, t.Blocks, t.HashStart, t.Algorithm, t.Digest, t.Salt)
	if len(t.Options) > 0 {
		b = t.Options.append(append(b, ' '))
	}
	return b
}

var verityOptions = map[string]int{
	"ignore_corruption": 0, "restart_on_corruption": 0, "panic_on_corruption": 0, "ignore_zero_blocks": 0, "check_at_most_once": 0,
	"use_fec_from_device": 1, "fec_roots": 1, "fec_blocks": 1, "fec_start": 1, "root_hash_sig_key_desc": 1, "try_verify_in_tasklet": 0,
}

// Validate knows the versions, block sizes and options.
func (t *Verity) Validate() error {
	err := t.Options.check(verityOptions)
	for _, d := range []string{t.Data, t.Hash, t.Algorithm} {
		if err == nil {
			err = checkDevice(d)
		}
	}
	for _, size := range []uint64{t.DataBlockSize, t.HashBlock} {
		if err == nil && (size < 512 || bits.OnesCount64(size) != 1) {
			err = fmt.Errorf("a block size of %d bytes is no power of two from 512 on", size)
		}
	}
	for _, number := range []string{t.Digest, t.Salt} {
		if _, hexErr := hex.DecodeString(number); err == nil && number != absent && (hexErr != nil || number == "") {
			err = fmt.Errorf("%q is no hexadecimal number", number)
		}
	}
	if err == nil && t.Version > 1 {
		err = fmt.Errorf("there is no version %d", t.Version)
	}
	if err != nil {
		return fmt.Errorf("target verity: %w", err)
	}
	return nil
}

func (t *Verity) parse(w *words) {
	t.Version, t.Data, t.Hash = w.number("version"), w.word("data device"), w.word("hash device")
	t.DataBlockSize, t.HashBlock = w.number("block size of data"), w.number("block size of hashes")
	t.Blocks, t.HashStart = w.number("number of blocks"), w.number("first block of hashes")
	t.Algorithm, t.Digest, t.Salt = w.word("algorithm"), w.word("digest"), w.word("salt")
	if w.more() {
		t.Options = w.args("options")
	}
}

// VerityStatus tells whether a block has been wrong.
type VerityStatus struct{ State string } // V (valid so far), C (corrupted)

// AppendStatus appends the state.
func (s *VerityStatus) AppendStatus(b []byte) []byte { return append(b, s.State...) }

func (s *VerityStatus) parse(w *words) { s.State = w.word("state") }
