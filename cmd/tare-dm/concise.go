package main

import (
	"io"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// Devices in one line each: NAME,UUID,MINOR,FLAGS,TABLE[,TABLE...], with a semicolon
// between two of them, and a backslash before what is neither.
const conciseFields = 5

// createConcise makes devices of an argument, or of the standard input.
func (a *app) createConcise(args []string) bool {
	if len(args) > 1 {
		a.errorf("dmsetup create --concise takes at most one argument")
		return false
	}
	if a.withTable || a.byMinor || a.byUUID || a.notable || a.inactive {
		a.errorf("--concise is incompatible with --[no]table, --minor, --uuid and --inactive.")
		return false
	}
	var text string
	if len(args) == 1 {
		text = args[0]
	} else {
		b, err := io.ReadAll(a.in)
		if err != nil {
			a.errorf("Read from stdin aborted: %s", strerror(err))
			return false
		}
		text = string(b)
	}
	for text != "" {
		fields, rest, why := nextConcise(text)
		if why != "" {
			a.errorf("%s", why)
			a.parsed(fields)
			return false
		}
		if !a.createFields(fields) {
			return false
		}
		text = rest
	}
	return true
}

// parsed prints what was understood of a device, but for its table, in which a key
// may be.
func (a *app) parsed(fields []string) {
	n := len(fields)
	shown := make([]string, conciseFields)
	for i := range shown {
		shown[i] = "(null)"
	}
	copy(shown, fields)
	if n == conciseFields {
		shown[4] = "(not shown)"
	}
	a.errorf("Parsed %d fields: name: %s uuid: %s minor: %s flags: %s table: %s", n, shown[0], shown[1], shown[2], shown[3], shown[4])
}

// nextConcise reads the fields of one device. Lines of its table are separated by
// newlines then.
func nextConcise(text string) (fields []string, rest, why string) {
	var b strings.Builder
	next := func() {
		fields = append(fields, b.String())
		b.Reset()
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if i++; i == len(text) {
				next()
				return fields, "", "Backslash must be followed by another character at end of string."
			}
			b.WriteByte(text[i])
			continue
		case c == ',' && len(fields) < conciseFields-1:
			next()
			for i+1 < len(text) && isSpace(text[i+1]) {
				i++
			}
			continue
		case c == ',':
			b.WriteByte('\n')
			continue
		case c == ';':
			next()
			rest = strings.TrimLeft(text[i+1:], " \t\n\v\f\r")
			if len(fields) != conciseFields {
				return fields, "", "Five comma-separated fields are required for each device"
			}
			return fields, rest, ""
		default:
			b.WriteByte(c)
		}
	}
	next()
	if len(fields) != conciseFields {
		return fields, "", "Five comma-separated fields are required for each device"
	}
	return fields, "", ""
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func (a *app) createFields(f []string) bool {
	w := wanted{name: f[0], uuid: f[1], readOnly: a.readOnly}
	if f[2] != "" {
		n := uint32(number(f[2]))
		w.minor = &n
	}
	switch f[3] {
	case "ro":
		w.readOnly = true
	case "rw", "":
	default:
		a.errorf("Invalid flags parameter '%s' must be 'ro' or 'rw' or empty.", f[3])
		return false
	}
	var ok bool
	if w.table, ok = a.parseTable([]byte(f[4]), ""); !ok {
		return false
	}
	defer w.table.Wipe()
	return a.create(w)
}

// quoteConcise puts a backslash before what has a meaning in the concise form.
func quoteConcise(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(`,;\`, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// conciseHead is what stands before a device's table.
func (a *app) conciseHead(name string, info dm.Info) {
	if a.concisePrinted {
		a.out.WriteByte(';')
	}
	a.concisePrinted = true
	mode := "rw"
	if info.ReadOnly {
		mode = "ro"
	}
	a.printf("%s,%s,%d,%s", quoteConcise(name), quoteConcise(a.shown(info.UUID)), info.Dev.Minor, mode)
}
