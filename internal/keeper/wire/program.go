package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// TakesState is what a keeper's program prints that is asked, by --takes-state,
// whether it could go on for one with a state of that version, and could. Programs
// of all versions must know the question.
func TakesState(version int) string { return fmt.Sprintf("tare-keeper takes over state %d", version) }

// ProgramDigest tells programs apart: a keeper names its own in [HelloReply],
// an engine that of the program it would start.
func ProgramDigest(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", fmt.Errorf("digest of the program: %w", err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
