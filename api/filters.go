package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Filters are the conditions of a list, prune or events request: for each key
// the values asked for. Values of one key are alternatives, keys add up. A key
// that is absent or has no values is no condition.
type Filters map[string]map[string]bool

// maxFilterValues bounds what one request can make the engine compare.
const maxFilterValues = 1000

// FilterError is a filter that the operation does not know, or a value it
// cannot use. Its text is Docker's.
type FilterError struct {
	Key    string
	Values []string
	why    string
}

func (e *FilterError) Error() string {
	switch {
	case e.Key == "" && e.why == "":
		return "invalid filter"
	case e.Key == "":
		return "invalid filter: " + e.why
	case e.Values == nil:
		return "invalid filter '" + e.Key + "'"
	}
	return fmt.Sprintf("invalid filter '%s=%s'", e.Key, e.Values)
}

// ParseFilters decodes the query parameter "filters": a JSON object of either
// {"label":{"a=b":true}} or, from older clients, {"label":["a=b"]}.
func ParseFilters(s string) (Filters, error) {
	if s == "" {
		return nil, nil
	}
	if strings.TrimSpace(s) == "null" {
		return nil, nil
	}
	var f Filters
	if err := json.Unmarshal([]byte(s), &f); err != nil {
		if f, err = parseListFilters(s); err != nil {
			return nil, &FilterError{why: err.Error()}
		}
	}
	for key, values := range f {
		if len(values) > maxFilterValues {
			return nil, &FilterError{why: fmt.Sprintf("%q has more than %d values", key, maxFilterValues)}
		}
	}
	return f, nil
}

func parseListFilters(s string) (Filters, error) {
	var lists map[string][]string
	if err := json.Unmarshal([]byte(s), &lists); err != nil {
		return nil, err
	}
	f := make(Filters, len(lists))
	for key, values := range lists {
		for _, v := range values {
			f.Add(key, v)
		}
	}
	return f, nil
}

// Encode is the inverse of ParseFilters, in the form all versions of the API
// from 1.22 on understand. No filters give the empty string.
func (f Filters) Encode() string {
	if len(f) == 0 {
		return ""
	}
	b, _ := json.Marshal(f) // maps of strings always have an encoding
	return string(b)
}

// Add adds a value to a key. f must not be nil.
func (f Filters) Add(key, value string) {
	if f[key] == nil {
		f[key] = map[string]bool{}
	}
	f[key][value] = true
}

// With returns f with a value added to a key; f may be nil, and may change.
func (f Filters) With(key, value string) Filters {
	if f == nil {
		f = Filters{}
	}
	f.Add(key, value)
	return f
}

// Has reports whether the key has values.
func (f Filters) Has(key string) bool { return len(f[key]) > 0 }

// Get returns the values of a key in order.
func (f Filters) Get(key string) []string {
	return slices.Sorted(maps.Keys(f[key]))
}

// Validate returns a FilterError for the first key that is not accepted.
func (f Filters) Validate(accepted []string) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(accepted, key) {
			return &FilterError{Key: key}
		}
	}
	return nil
}

// Invalid makes the error for a value of the key that cannot be used.
func (f Filters) Invalid(key string) error {
	return &FilterError{Key: key, Values: f.Get(key)}
}

// Bool returns the one boolean value of a key, or the default.
func (f Filters) Bool(key string, byDefault bool) (bool, error) {
	values := f[key]
	if len(values) == 0 {
		return byDefault, nil
	}
	if len(values) > 1 {
		return byDefault, &FilterError{Key: key}
	}
	yes, no := values["1"] || values["true"], values["0"] || values["false"]
	if yes == no {
		return byDefault, f.Invalid(key)
	}
	return yes, nil
}

// Exact reports whether the key is no condition or has the value.
func (f Filters) Exact(key, value string) bool {
	return len(f[key]) == 0 || f[key][value]
}

// Only reports whether the key is no condition or has the value and no other.
func (f Filters) Only(key, value string) bool {
	return len(f[key]) == 0 || len(f[key]) == 1 && f[key][value]
}

// Prefix reports whether the key is no condition or has a value with which
// the given one begins.
func (f Filters) Prefix(key, value string) bool {
	if f.Exact(key, value) {
		return true
	}
	for prefix := range f[key] {
		if strings.HasPrefix(value, prefix) {
			return true
		}
	}
	return false
}

// Match reports whether the key is no condition, has the value, or has a
// regular expression that matches a part of it. What is no expression matches
// nothing but itself.
func (f Filters) Match(key, value string) bool {
	if f.Exact(key, value) {
		return true
	}
	for pattern := range f[key] {
		if re, err := regexp.Compile(pattern); err == nil && re.MatchString(value) {
			return true
		}
	}
	return false
}

// KV reports whether the pairs meet every value of the key, each of the form
// "name" (there is such a pair) or "name=value".
func (f Filters) KV(key string, pairs map[string]string) bool {
	for want := range f[key] {
		name, value, exact := strings.Cut(want, "=")
		got, ok := pairs[name]
		if !ok || exact && got != value {
			return false
		}
	}
	return true
}
