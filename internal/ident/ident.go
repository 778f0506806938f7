// Package ident makes the identifiers of objects: 64 hexadecimal digits, of
// which people see the first 12.
package ident

import (
	"crypto/rand"
	"encoding/hex"
)

// Len is the length of a full identifier.
const Len = 64

// New returns a random identifier. One that looks like a decimal number in its
// short form is not given out: as a host name it would be taken for an address.
func New() string {
	for {
		var b [Len / 2]byte
		rand.Read(b[:]) // never fails: crypto/rand
		id := hex.EncodeToString(b[:])
		if !decimal(Short(id)) {
			return id
		}
	}
}

// Short is the form that people see. Shorter strings come back as they are.
func Short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

// Valid reports whether s is a full identifier.
func Valid(s string) bool { return len(s) == Len && ValidPrefix(s) }

// ValidPrefix reports whether s may be the beginning of an identifier.
func ValidPrefix(s string) bool {
	if s == "" || len(s) > Len {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func decimal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
