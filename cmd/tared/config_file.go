package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
)

// maxConfigFile bounds the configuration file; a whole one has 1 KB.
const maxConfigFile = 1 << 20

// readFile adds the settings of the configuration file to those of the flags.
func (c *Config) readFile(options []option, set *pflag.FlagSet) error {
	b, err := readConfigFile(c.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) && !set.Changed("config-file") {
		return nil
	}
	if err != nil {
		return err
	}
	f := configFile{path: c.ConfigFile, data: b, options: options, set: set}
	return f.apply()
}

func readConfigFile(path string) ([]byte, error) {
	b, err := readSmall(path, maxConfigFile)
	if err != nil {
		return nil, fmt.Errorf("configuration file: %w", err)
	}
	return b, nil
}

// readSmall reads a file of so many bytes at most.
func readSmall(path string, most int64) ([]byte, error) {
	// A FIFO would keep us waiting for ever.
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s: larger than %d bytes", path, most)
	}
	return b, err
}

// configFile is a JSON object whose keys are options. Errors name the file,
// the line and the key.
type configFile struct {
	path    string
	data    []byte
	options []option
	set     *pflag.FlagSet // says which flags were given
}

func (f *configFile) apply() error {
	if len(bytes.TrimSpace(f.data)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(f.data))
	if t, err := dec.Token(); err != nil {
		return f.syntax(dec, err)
	} else if t != json.Delim('{') {
		return f.errorf(0, "want a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		if err := f.pair(dec, seen); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return f.syntax(dec, err)
	}
	end := dec.InputOffset()
	if len(bytes.TrimSpace(f.data[end:])) > 0 {
		return f.errorf(end+1, "unexpected text after the closing brace")
	}
	return nil
}

// pair reads one key and its value.
func (f *configFile) pair(dec *json.Decoder, seen map[string]bool) error {
	t, err := dec.Token()
	if err != nil {
		return f.syntax(dec, err)
	}
	at, key := dec.InputOffset(), t.(string) // within an object the decoder gives keys as strings or fails
	if key == "proxies" {
		return f.proxies(dec, seen)
	}
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return f.syntax(dec, err)
	}
	return f.put(at, key, raw, seen)
}

// proxies reads the object in which dockerd's file has the settings of proxies.
func (f *configFile) proxies(dec *json.Decoder, seen map[string]bool) error {
	at := dec.InputOffset()
	if seen["proxies"] {
		return f.errorf(at, "key %q stands here for the second time", "proxies")
	}
	seen["proxies"] = true
	t, err := dec.Token()
	if err != nil {
		return f.syntax(dec, err)
	}
	if t != json.Delim('{') {
		return f.errorf(at, "key %q: want an object of http-proxy, https-proxy and no-proxy", "proxies")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return f.syntax(dec, err)
		}
		at, key := dec.InputOffset(), t.(string)
		if !slices.Contains([]string{"http-proxy", "https-proxy", "no-proxy"}, key) {
			return f.errorf(at, "unknown key %q in %q", key, "proxies")
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return f.syntax(dec, err)
		}
		if err := f.put(at, key, raw, seen); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return f.syntax(dec, err)
	}
	return nil
}

// put gives the option that key names its value.
func (f *configFile) put(at int64, key string, raw json.RawMessage, seen map[string]bool) error {
	i := slices.IndexFunc(f.options, func(o option) bool { return o.key == key && key != "" })
	switch {
	case i < 0:
		return f.errorf(at, "unknown key %q", key)
	case seen[key]:
		return f.errorf(at, "key %q stands here for the second time", key)
	}
	seen[key] = true
	o := f.options[i]
	if o.flag != "" && f.set.Changed(o.flag) {
		return f.errorf(at, "key %q: given as the flag --%s too (flag: %s, file: %s)", key, o.flag, o.value, raw)
	}
	words, err := wordsOf(o.value, raw)
	if err != nil {
		return f.errorf(at, "key %q: %w", key, err)
	}
	for _, w := range words {
		if err := o.value.Set(w); err != nil {
			return f.errorf(at, "key %q: value %q: %w", key, w, err)
		}
	}
	return nil
}

// wordsOf turns a JSON value into what the flag would be given.
func wordsOf(v pflag.Value, raw json.RawMessage) ([]string, error) {
	if string(raw) == "null" {
		return nil, fmt.Errorf("null is no value")
	}
	var err error
	switch v.Type() {
	case boolType, autoType:
		var b bool
		if err = json.Unmarshal(raw, &b); err == nil {
			return []string{strconv.FormatBool(b)}, nil
		}
		if v.Type() == autoType && string(raw) == `"auto"` {
			return []string{"auto"}, nil
		}
		return nil, fmt.Errorf("want %s, not %s", map[string]string{boolType: "true or false", autoType: `true, false or "auto"`}[v.Type()], raw)
	case "list":
		var list []string
		if err = json.Unmarshal(raw, &list); err == nil {
			return list, nil
		}
		return nil, fmt.Errorf("want a list of strings, not %s", raw)
	}
	if v.Type() == "int" {
		var n int64
		if err = json.Unmarshal(raw, &n); err == nil {
			return []string{strconv.FormatInt(n, 10)}, nil
		}
		return nil, fmt.Errorf("want a number, not %s", raw)
	}
	switch v.Type() {
	case "runtimes":
		return runtimeWords(raw)
	case builderType:
		return objectWord(raw)
	case poolsType:
		return poolWords(raw)
	case absentType:
		return absentWords(raw)
	case ulimitsType:
		return ulimitWords(raw)
	case objectType:
		return objectWords(raw)
	case networkOptsType:
		return networkOptWords(raw)
	}
	var s string
	if err = json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("want a string, not %s", raw)
	}
	return []string{s}, nil
}

// syntax says where the file stops being JSON.
func (f *configFile) syntax(dec *json.Decoder, err error) error {
	at := dec.InputOffset()
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		at, err = int64(len(f.data)), errors.New("the file ends within the JSON object")
	}
	return f.errorf(at, "%w", err)
}

// errorf makes an error at an offset of the file.
func (f *configFile) errorf(at int64, format string, args ...any) error {
	at = min(at, int64(len(f.data)))
	line := 1 + bytes.Count(f.data[:at], []byte("\n"))
	return fmt.Errorf("%s:%d: %w", f.path, line, fmt.Errorf(format, args...))
}
