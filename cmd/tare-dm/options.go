package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// flags are what the command line says beside its arguments.
type flags struct {
	readOnly, addOnResume, addOnCreate, checks, columns, concise, deferred bool
	selecting, executing, help, inactive, nameprefixes, noflush            bool
	noheadings, nolockfs, noopencount, notable, noudevrules, noudevsync    bool
	retry, rows, setuuid, showkeys, tree, unbuffered, unquoted, verifyudev bool
	version, yes, byUUID, byMajor, byMinor, withTable, withTarget          bool
	fields, sorted, separated, counted, repeated, withUID, withGID         bool
	mangled, ahead                                                         bool

	force, verbose       int
	major, minor         uint32
	uid, gid             int
	mode                 uint32
	uuid, table, target  string
	exec, list, sort     string
	selection, separator string
	counts, interval     int
	mangle               mangling
	readAhead            readAhead
	cookie               dm.Cookie
}

// readAhead is what the kernel is to read ahead of a device.
type readAhead struct {
	auto, least bool // leave it; only if there is not more already
	sectors     uint32
}

// complaint is an error in dmsetup's words.
type complaint string

func (c complaint) Error() string { return string(c) }

// errQuiet is an error that has been printed.
var errQuiet = errors.New("")

func sets(b func(*app) *bool) func(*app, string) error {
	return func(a *app, _ string) error { *b(a) = true; return nil }
}

// number is atoi(3): digits as far as there are some.
func number(s string) int {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	end := 0
	if end < len(s) && (s[0] == '-' || s[0] == '+') {
		end++
	}
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	n, _ := strconv.Atoi(s[:end])
	return n
}

// optionTable is in the order of dmsetup's, in which ambiguous words are listed.
var optionTable = []option{
	{"r", "readonly", false, sets(func(a *app) *bool { return &a.readOnly })},
	{"", "checks", false, sets(func(a *app) *bool { return &a.checks })},
	{"cC", "columns", false, sets(func(a *app) *bool { return &a.columns })},
	{"", "concise", false, sets(func(a *app) *bool { return &a.concise })},
	{"", "count", true, setCount},
	{"", "deferred", false, sets(func(a *app) *bool { return &a.deferred })},
	{"S", "select", true, func(a *app, v string) error { a.selecting, a.selection = true, v; return nil }},
	{"", "exec", true, func(a *app, v string) error { a.executing, a.exec = true, v; return nil }},
	{"f", "force", false, func(a *app, _ string) error { a.force++; return nil }},
	{"G", "gid", true, func(a *app, v string) error { a.withGID, a.gid = true, number(v); return nil }},
	{"h", "help", false, sets(func(a *app) *bool { return &a.help })},
	{"", "inactive", false, sets(func(a *app) *bool { return &a.inactive })},
	{"", "interval", true, setInterval},
	{"", "manglename", true, setMangling},
	{"j", "major", true, func(a *app, v string) error { a.byMajor, a.major = true, uint32(number(v)); return nil }},
	{"m", "minor", true, func(a *app, v string) error { a.byMinor, a.minor = true, uint32(number(v)); return nil }},
	{"M", "mode", true, setMode},
	{"", "nameprefixes", false, sets(func(a *app) *bool { return &a.nameprefixes })},
	{"", "noflush", false, sets(func(a *app) *bool { return &a.noflush })},
	{"", "noheadings", false, sets(func(a *app) *bool { return &a.noheadings })},
	{"", "nolockfs", false, sets(func(a *app) *bool { return &a.nolockfs })},
	{"", "noopencount", false, sets(func(a *app) *bool { return &a.noopencount })},
	{"n", "notable", false, sets(func(a *app) *bool { return &a.notable })},
	{"", "udevcookie", true, func(a *app, v string) error { k, err := parseCookie(v); a.cookie = k; return err }},
	{"", "noudevrules", false, sets(func(a *app) *bool { return &a.noudevrules })},
	{"", "noudevsync", false, sets(func(a *app) *bool { return &a.noudevsync })},
	{"o", "options", true, func(a *app, v string) error { a.fields, a.list = true, v; return nil }},
	{"", "readahead", true, setReadAhead},
	{"", "retry", false, sets(func(a *app) *bool { return &a.retry })},
	{"", "rows", false, sets(func(a *app) *bool { return &a.rows })},
	{"", "separator", true, func(a *app, v string) error { a.separated, a.separator = true, v; return nil }},
	{"", "setuuid", false, sets(func(a *app) *bool { return &a.setuuid })},
	{"", "showkeys", false, sets(func(a *app) *bool { return &a.showkeys })},
	{"O", "sort", true, func(a *app, v string) error { a.sorted, a.sort = true, v; return nil }},
	{"", "table", true, func(a *app, v string) error { a.withTable, a.table = true, v; return nil }},
	{"", "target", true, func(a *app, v string) error { a.withTarget, a.target = true, v; return nil }},
	{"", "tree", false, sets(func(a *app) *bool { return &a.tree })},
	{"U", "uid", true, func(a *app, v string) error { a.withUID, a.uid = true, number(v); return nil }},
	{"u", "uuid", true, func(a *app, v string) error { a.byUUID, a.uuid = true, v; return nil }},
	{"", "unbuffered", false, sets(func(a *app) *bool { return &a.unbuffered })},
	{"", "unquoted", false, sets(func(a *app) *bool { return &a.unquoted })},
	{"v", "verbose", true, func(a *app, _ string) error { a.verbose++; return nil }},
	{"", "verifyudev", false, sets(func(a *app) *bool { return &a.verifyudev })},
	{"", "version", false, sets(func(a *app) *bool { return &a.version })},
	{"y", "yes", false, sets(func(a *app) *bool { return &a.yes })},
	{"", "addnodeonresume", false, sets(func(a *app) *bool { return &a.addOnResume })},
	{"", "addnodeoncreate", false, sets(func(a *app) *bool { return &a.addOnCreate })},
}

func setCount(a *app, v string) error {
	a.counted, a.counts = true, number(v)
	if a.counts < 0 {
		return complaint("Count must be zero or greater.")
	}
	return nil
}

func setInterval(a *app, v string) error {
	a.repeated, a.interval = true, number(v)
	if a.interval <= 0 {
		return complaint("Interval must be a positive integer.")
	}
	return nil
}

func setMangling(a *app, v string) error {
	m, ok := manglings[strings.ToLower(v)]
	if !ok {
		return complaint("Unknown name mangling mode.")
	}
	a.mangled, a.mangle = true, m
	return nil
}

func setMode(a *app, v string) error {
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n == 0 {
		return complaint(fmt.Sprintf("Invalid argument for --mode: %s. ", v))
	}
	a.mode = uint32(n)
	return nil
}

func setReadAhead(a *app, v string) error {
	a.ahead, a.readAhead = true, readAhead{}
	switch strings.ToLower(v) {
	case "auto":
		a.readAhead.auto = true
		return nil
	case "none":
		return nil
	}
	a.readAhead.least = strings.HasPrefix(strings.TrimLeft(v, " \t"), "+")
	n := number(v)
	switch {
	case n < -1:
		return complaint(fmt.Sprintf("Negative read ahead value (%d) is not understood.", n))
	case n == -1:
		a.readAhead.auto = true
	default:
		a.readAhead.sectors = uint32(n)
	}
	return nil
}

func parseCookie(s string) (dm.Cookie, error) {
	k, err := dm.ParseCookie(s)
	if err != nil {
		return 0, complaint("Incorrect cookie value.")
	}
	return k, nil
}

// options reads the command line and the environment.
func (a *app) options(args []string) (rest []string, ok bool) {
	a.dir = "/dev/"
	if d := os.Getenv("DM_DEV_DIR"); d != "" {
		if d[0] != '/' {
			a.errorf("Invalid DM_DEV_DIR environment variable value.")
			return nil, false
		}
		a.dir = strings.TrimSuffix(d, "/") + "/"
	}
	a.mangle = mangleAuto
	if m, ok := manglings[strings.ToLower(os.Getenv("DM_DEFAULT_NAME_MANGLING_MODE"))]; ok {
		a.mangle = m
	}
	rest, ok = getopt(a, optionTable, args)
	switch {
	case !ok:
		return nil, false
	case a.byMajor != a.byMinor:
		a.errorf("Please specify both major number and minor number.")
	case a.withTable && a.notable:
		a.errorf("--table and --notable are incompatible.")
	case a.addOnResume && a.addOnCreate:
		a.errorf("--addnodeonresume and --addnodeoncreate are incompatible.")
	default:
		if env := os.Getenv("DM_UDEV_COOKIE"); a.cookie == 0 && env != "" {
			k, err := parseCookie(env)
			if err != nil {
				a.errorf("%s", err)
			}
			a.cookie = k
		}
		return rest, true
	}
	return nil, false
}

// verbOptions reads the values that mean something else with each verb.
func (a *app) verbOptions() bool {
	if a.command == "splitname" {
		a.columns = true
	}
	if a.command == "mangle" {
		a.target2, a.mangle = a.mangle, mangleNone
	}
	if a.tree {
		return a.treeOptions()
	}
	if a.columns || !a.fields {
		return true
	}
	for i := 0; i < len(a.list); {
		word, _, more := strings.Cut(a.list[i:], ",")
		switch {
		case strings.HasPrefix("devno", word):
			a.naming = byNumber
		case strings.HasPrefix("blkdevname", word):
			a.naming = byKernelName
		case strings.HasPrefix("devname", word):
			a.naming = byMappedName
		default:
			a.errorf("Option not recognised: %s.", a.list[i:])
			return false
		}
		if !more {
			break
		}
		i += len(word) + 1
	}
	return true
}

// byOption reports whether options say which device is meant.
func (a *app) byOption() bool { return a.byUUID || a.byMajor }
