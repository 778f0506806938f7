package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// atKey adds to the error of a value that reads itself from text, such as an address,
// where in the document it stands, behind Docker's words, which clients look for. Go's
// decoder says that only of its own errors.
func atKey(doc []byte, err error) error {
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return err
	}
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return err
	}
	var v any
	if json.Unmarshal(doc, &v) != nil {
		return err
	}
	if key := find(v, "", err.Error()); key != "" {
		return fmt.Errorf("%w (%s)", err, key)
	}
	return err
}

// find returns the path of the first text in a document that an error quotes.
func find(v any, at, text string) string {
	quoted := func(s string) bool {
		return s != "" && (strings.Contains(text, strconv.Quote(s)) || strings.Contains(text, "'"+s+"'") || strings.Contains(text, "address "+s+":"))
	}
	switch v := v.(type) {
	case string:
		if quoted(v) {
			return at
		}
	case []any:
		for i, e := range v {
			if key := find(e, fmt.Sprintf("%s[%d]", at, i), text); key != "" {
				return key
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if port, _, _ := strings.Cut(name, "/"); quoted(port) {
				return at
			}
			if key := find(v[name], strings.TrimPrefix(at+"."+name, "."), text); key != "" {
				return key
			}
		}
	}
	return ""
}
