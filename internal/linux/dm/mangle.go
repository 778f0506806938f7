package dm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxName is the length of the longest name.
const maxName = nameSize - 1

// plain reports whether udev can have a character in a name.
func plain(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || strings.IndexByte("#+-.:=@_", c) >= 0
}

// CheckName reports why the kernel or /dev/mapper could not have a device of a name.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name %q is longer than %d bytes", name, maxName)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("the name %q contains a slash or a zero", name)
	case name == "." || name == ".." || name == controlName:
		return fmt.Errorf("the name %q has another meaning in /dev/mapper", name)
	}
	return nil
}

// ErrMangled is about a name that is half mangled, or mangled twice.
var ErrMangled = errors.New("the name contains mixed mangled and unmangled characters")

// Mangle writes the characters of a name that udev does not know as \xNN. What is
// mangled already stays: then all of it must be.
func Mangle(name string) (string, error) {
	var b strings.Builder
	var mangled, raw bool
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case strings.HasPrefix(name[i:], `\x`):
			if len(name)-i < 4 {
				return "", ErrMangled
			}
			mangled = true
			b.WriteString(name[i : i+4])
			i += 3
		case plain(c):
			b.WriteByte(c)
		default:
			raw = true
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	if mangled && raw {
		return "", ErrMangled
	}
	return b.String(), nil
}

// MangleAll is Mangle for names that are not mangled, in which a backslash is one.
func MangleAll(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plain(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// Unmangle is the reverse of both. What is not mangled stays.
func Unmangle(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if strings.HasPrefix(name[i:], `\x`) && len(name)-i >= 4 {
			if n, err := strconv.ParseUint(name[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
