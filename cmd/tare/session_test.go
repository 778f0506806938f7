package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestDetachReader(t *testing.T) {
	keys := []byte{16, 17}
	for _, c := range []struct {
		typed, passed string
		detached      bool
	}{
		{"plain", "plain", false},
		{"a\x10\x11b", "a", true},
		{"\x10\x10\x11", "\x10", true},
		{"\x10x\x11", "\x10x\x11", false},
		{"end\x10", "end\x10", false},
		{"", "", false},
	} {
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewBufferString(c.typed), "bytes": iotest.OneByteReader(bytes.NewBufferString(c.typed)),
			"last with EOF": iotest.DataErrReader(bytes.NewBufferString(c.typed)),
		} {
			got, err := io.ReadAll(&detachReader{in: in, keys: keys})
			if string(got) != c.passed || errors.Is(err, errDetached) != c.detached {
				t.Errorf("%q (%s): passed %q, %v", c.typed, name, got, err)
			}
		}
	}
}
