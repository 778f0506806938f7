package main

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// wanted is a device to be made.
type wanted struct {
	name, uuid string
	minor      *uint32
	readOnly   bool
	table      dm.Table
	noTable    bool
}

func createVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	if a.concise {
		return a.createConcise(args)
	}
	if len(args) == 0 {
		a.errorf("Please provide a name for the new device.")
		return false
	}
	w := wanted{name: args[0], uuid: a.uuid, readOnly: a.readOnly, noTable: a.notable}
	if a.byMinor {
		w.minor = &a.minor
	}
	if !w.noTable {
		var ok bool
		if w.table, ok = a.readTable(args[1:]); !ok {
			return false
		}
		defer w.table.Wipe()
	}
	return a.create(w)
}

// create makes a device, with its table live, or none.
func (a *app) create(w wanted) bool {
	if strings.Contains(w.name, "/") {
		a.errorf("Name \"%s\" invalid. It contains \"/\".", w.name)
		return false
	}
	name, ok := a.newName("name", w.name)
	if !ok {
		return false
	}
	uuid, ok := a.mangleText("UUID", w.uuid)
	if !ok {
		return false
	}
	c := a.dm()
	if c == nil {
		return false
	}
	o := dm.CreateOptions{UUID: uuid, Minor: w.minor, ReadOnly: w.readOnly, NodeEarly: a.addOnCreate}
	var info dm.Info
	var err error
	if len(w.table) == 0 {
		info, err = c.Create(name, o)
	} else {
		info, err = c.Activate(name, w.table, o)
	}
	if err != nil {
		return a.fail(err)
	}
	if len(w.table) > 0 && !a.setReadAhead(info) {
		return false
	}
	if a.verbose > 0 {
		return a.display(info)
	}
	return true
}

func (a *app) setReadAhead(info dm.Info) bool {
	if !a.ahead || a.readAhead.auto {
		return true
	}
	if a.readAhead.least {
		now, err := dm.ReadAhead(info.Dev)
		if err != nil {
			a.errorf("%s", err)
			return false
		}
		if now >= a.readAhead.sectors {
			return true
		}
	}
	if err := dm.SetReadAhead(info.Dev, a.readAhead.sectors); err != nil {
		a.errorf("%s", err)
		return false
	}
	return true
}

// readTable is that of --table, of a file, or of the standard input.
func (a *app) readTable(args []string) (dm.Table, bool) {
	switch {
	case a.withTable:
		return a.parseTable([]byte(a.table), "")
	case len(args) > 0:
		b, err := os.ReadFile(args[0])
		if err != nil {
			a.errorf("Couldn't open '%s' for reading.", args[0])
			return nil, false
		}
		defer clear(b)
		return a.parseTable(b, args[0])
	}
	b, err := io.ReadAll(a.in)
	if err != nil {
		a.errorf("Read from stdin aborted: %s", strerror(err))
		return nil, false
	}
	defer clear(b)
	return a.parseTable(b, "on stdin")
}

// maxType is the length of the longest name of a target.
const maxType = 15

func (a *app) parseTable(b []byte, where string) (dm.Table, bool) {
	t, err := dm.ParseTable(b)
	var e *dm.SyntaxError
	if errors.As(err, &e) {
		a.errorf("Invalid format on line %d of table %s.", e.Line, where)
		return nil, false
	}
	for _, l := range t {
		if len(l.Type) > maxType {
			a.errorf("Target type name %s is too long.", l.Type)
			t.Wipe()
			return nil, false
		}
	}
	return t, true
}

func loadVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	if a.notable {
		a.errorf("--notable only available when creating new device.")
		return false
	}
	var name []string
	switch {
	case a.byOption() && len(args) > 1:
		a.errorf("Too many command line arguments.")
		return false
	case !a.byOption() && len(args) == 0:
		a.errorf("Please specify device.")
		return false
	case !a.byOption():
		name, args = args[:1], args[1:]
	}
	ref, ok := a.ref(name)
	if !ok {
		return false
	}
	t, ok := a.readTable(args)
	if !ok {
		return false
	}
	defer t.Wipe()
	c := a.dm()
	if c == nil {
		return false
	}
	info, err := c.Load(ref, t, dm.LoadOptions{ReadOnly: a.readOnly})
	if err != nil {
		return a.fail(err)
	}
	if a.verbose > 0 {
		return a.display(info)
	}
	return true
}
