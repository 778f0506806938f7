package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"
)

// tmpfs reads the options of --mount type=tmpfs.
func (m *mountPoint) tmpfs(s mount.Mount) error {
	if s.Source != "" {
		return errors.New("field Source must not be specified")
	}
	words := []string{}
	if o := s.TmpfsOptions; o != nil {
		if o.SizeBytes < 0 {
			return fmt.Errorf("invalid tmpfs size %d", o.SizeBytes)
		}
		if o.SizeBytes > 0 {
			words = append(words, "size="+strconv.FormatInt(o.SizeBytes, 10))
		}
		if o.Mode != 0 {
			if o.Mode > 0o7777 {
				return fmt.Errorf("invalid tmpfs mode %#o", uint32(o.Mode))
			}
			words = append(words, "mode="+strconv.FormatUint(uint64(o.Mode), 8))
		}
		for _, kv := range o.Options {
			if len(kv) == 0 || len(kv) > 2 {
				return fmt.Errorf("invalid tmpfs option %q", kv)
			}
			words = append(words, strings.Join(kv, "="))
		}
	}
	if m.readOnly {
		words = append(words, "ro")
	}
	return m.setTmpfs(words)
}

// parseTmpfs reads a value of --tmpfs.
func parseTmpfs(target, options string) (mountPoint, error) {
	target, err := cleanTarget(target)
	if err != nil {
		return mountPoint{}, err
	}
	m := mountPoint{typ: mount.TypeTmpfs, target: target, mode: options}
	var words []string
	if options != "" {
		words = strings.Split(options, ",")
	}
	return m, m.setTmpfs(words)
}

// tmpfsFlags are options without a value, with what each replaces.
var tmpfsFlags = map[string]string{
	"ro": "rw", "rw": "ro", "nosuid": "suid", "suid": "nosuid", "nodev": "dev", "dev": "nodev", "noexec": "exec", "exec": "noexec",
	"noatime": "atime", "atime": "noatime", "nodiratime": "diratime", "diratime": "nodiratime", "relatime": "norelatime",
	"norelatime": "relatime", "strictatime": "nostrictatime", "nostrictatime": "strictatime",
	"private": "", "rprivate": "", "shared": "", "rshared": "", "slave": "", "rslave": "", "unbindable": "", "runbindable": "",
}

// tmpfsValues are options with a value, with its check.
var tmpfsValues = map[string]func(string) bool{
	"size": isSize, "nr_blocks": isSize, "nr_inodes": isSize, "mode": isOctal, "uid": isDecimal, "gid": isDecimal,
	"mpol": func(v string) bool { return v != "" && !strings.ContainsAny(v, " \n") },
}

func isDecimal(v string) bool { _, err := strconv.ParseUint(v, 10, 32); return err == nil }

func isOctal(v string) bool { n, err := strconv.ParseUint(v, 8, 32); return err == nil && n <= 0o7777 }

// isSize accepts what the kernel does: a number with k, m, g, or percent.
func isSize(v string) bool {
	v = strings.TrimRight(v, "kKmMgG%")
	_, err := strconv.ParseUint(v, 10, 63)
	return err == nil
}

// setTmpfs merges the words over the defaults; a later word replaces what
// contradicts it.
func (m *mountPoint) setTmpfs(words []string) error {
	m.options = []string{"noexec", "nosuid", "nodev"}
	for _, w := range words {
		key, value, hasValue := strings.Cut(w, "=")
		opposite, flag := tmpfsFlags[w]
		check, known := tmpfsValues[key]
		if !flag && (!hasValue || !known || !check(value)) {
			return fmt.Errorf("invalid tmpfs option %q", strings.SplitN(w, "=", 2))
		}
		m.options = slices.DeleteFunc(m.options, func(o string) bool {
			return o == w || flag && o == opposite || hasValue && strings.HasPrefix(o, key+"=")
		})
		m.options = append(m.options, w)
		m.readOnly = m.readOnly && w != "rw" || w == "ro"
	}
	return nil
}
