// Package configfile changes ~/.docker/config.json, which docker's command line
// and others write as well: keys it does not know stay as they are.
package configfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Fields are a JSON object whose values are left as they were written.
type Fields map[string]json.RawMessage

// Set gives a key a value, or takes the key away if the value is nil.
func (f Fields) Set(key string, value any) error {
	if value == nil {
		delete(f, key)
		return nil
	}
	text, err := json.Marshal(value)
	if err == nil {
		f[key] = text
	}
	return err
}

// Edit reads the file, has it changed, and puts it in place of the old one, for
// its owner's eyes only. There need be no file yet. Two that edit it at the same
// time wait for each other; other programs know nothing of that lock, but see
// the old or the new file whole. An error of change leaves it alone.
func Edit(path string, change func(Fields) error) error {
	path, err := target(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	defer unlock()
	all := Fields{}
	text, err := os.ReadFile(path)
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("loading config file: %s: %w", path, err)
	}
	if all == nil { // the file says null
		all = Fields{}
	}
	if err := change(all); err != nil {
		return err
	}
	if text, err = json.MarshalIndent(all, "", "\t"); err != nil {
		return err
	}
	return Replace(path, text)
}

// target is where the file lies: it may be a link into a collection of others.
func target(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	// A link to nothing yet is followed, once: what comes is made there.
	to, err := os.Readlink(path)
	switch {
	case err != nil:
		return path, nil
	case !filepath.IsAbs(to):
		to = filepath.Join(filepath.Dir(path), to)
	}
	return to, nil
}
