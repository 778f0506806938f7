package opts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CheckEnv is the check of --env: NAME=value as it is, NAME alone takes the
// value from our own environment, and stays alone if there is none.
func CheckEnv(s string) (string, error) {
	name, _, hasValue := strings.Cut(s, "=")
	if name == "" {
		return "", errors.New("invalid environment variable: " + s)
	}
	if hasValue {
		return s, nil
	}
	if v, ok := os.LookupEnv(name); ok {
		return name + "=" + v, nil
	}
	return s, nil
}

// CheckLabel is the check of --label.
func CheckLabel(s string) (string, error) {
	name, value, hasValue := strings.Cut(s, "=")
	trimmed := strings.TrimLeft(name, " \t")
	switch {
	case trimmed == "":
		return "", fmt.Errorf("invalid label '%s': empty name", s)
	case hasValue:
		return trimmed + "=" + value, nil
	}
	return trimmed, nil
}

// maxLine bounds a line of a file of variables.
const maxLine = 1 << 20

// ReadEnvFiles reads files of variables and appends those given as flags.
func ReadEnvFiles(paths, more []string) ([]string, error) {
	return readFiles(paths, more, os.LookupEnv)
}

// ReadLabelFiles reads files of labels and appends those given as flags.
func ReadLabelFiles(paths, more []string) ([]string, error) { return readFiles(paths, more, nil) }

func readFiles(paths, more []string, lookup func(string) (string, bool)) ([]string, error) {
	var all []string
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		lines, err := ParseEnvFile(f, lookup)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("invalid env file (%s): %w", path, err)
		}
		all = append(all, lines...)
	}
	return append(all, more...), nil
}

// ParseEnvFile reads NAME=value lines. Empty lines and those that begin with #
// are skipped; there are no quotes, escapes or continuations. For a NAME alone
// the value comes from lookup, and the line counts only if there is one; a nil
// lookup keeps the name as it is.
func ParseEnvFile(r io.Reader, lookup func(string) (string, bool)) ([]string, error) {
	lines := []string{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		text := s.Bytes()
		if n == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff")) // editors on Windows
		}
		if !utf8.Valid(text) {
			return nil, fmt.Errorf("invalid utf8 bytes at line %d: %v", n, text)
		}
		line := strings.TrimLeftFunc(string(text), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, hasValue := strings.Cut(line, "=")
		switch {
		case name == "":
			return nil, fmt.Errorf("no variable name on line '%s'", line)
		case strings.ContainsAny(name, " \t\n\v\f\r\u0085\u00a0"):
			return nil, fmt.Errorf("variable '%s' contains whitespaces", name)
		case hasValue:
			lines = append(lines, name+"="+value)
		case lookup == nil:
			lines = append(lines, name)
		default:
			if v, ok := lookup(name); ok {
				lines = append(lines, name+"="+v)
			}
		}
	}
	return lines, s.Err()
}
