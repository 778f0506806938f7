package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// ProgramDigest tells programs apart: a keeper names its own in [HelloReply],
// an engine that of the program it would start.
func ProgramDigest(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("digest of the program: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
