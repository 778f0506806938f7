package image

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/therootcompany/xz"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

func TestDecompress(t *testing.T) {
	text := []byte(strings.Repeat("all kinds of bytes ", 10000))
	for name, c := range map[string]struct {
		packed []byte
		want   compression
	}{
		"plain":                       {text, plain},
		"gzip":                        {imagetest.Gzip(text), gzipped},
		"zstd":                        {imagetest.Zstd(text), zstded},
		"bzip2":                       {imagetest.Bzip2(text), bzip2ed},
		"xz":                          {imagetest.Xz(text), xzed},
		"xz -9":                       {imagetest.Xz(text, "-9", "--check=sha256"), xzed},
		"xz of machine code":          {imagetest.Xz(text, "--x86", "--lzma2=preset=6"), xzed},
		"xz with more than one block": {imagetest.Xz(text, "--block-size=10000"), xzed},
	} {
		r, got, err := decompress(t.Context(), bytes.NewReader(c.packed))
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
			continue
		}
		if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestXzDictionaryIsBounded(t *testing.T) {
	text := []byte(strings.Repeat("x", 10000))
	second := append(imagetest.Xz(text), imagetest.Xz(text, "--lzma2=dict=128MiB")...)
	r, _, err := decompress(t.Context(), bytes.NewReader(second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, xz.ErrMemlimit) || !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Error(err)
	}
}
