package main

import (
	"os"
	"os/exec"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// statusVerb is status, table, measure, and ls of some targets.
func statusVerb(a *app, args []string, device *dm.Listed, many bool) bool {
	if device == nil && len(args) == 0 && !a.byOption() {
		return a.all(statusVerb, false)
	}
	c, ref, ok := a.about(device, args)
	if !ok {
		return false
	}
	ask := c.Status
	if a.command == "table" {
		ask = c.Table
	}
	info, lines, err := ask(ref, a.query())
	if err != nil {
		return a.fail(err)
	}
	defer lines.Wipe()
	name := a.shown(info.Name)
	if device == nil && len(args) > 0 {
		name = args[0]
	}
	if len(lines) == 0 { // a device without a table has one empty line
		lines = dm.Table{{}}
	}
	l := listing{a: a, name: name, info: info, many: many}
	for _, line := range lines {
		if a.withTarget && line.Type != a.target {
			continue
		}
		l.line(line)
		if a.command == "ls" {
			break
		}
	}
	return l.end()
}

// listing is what is printed of one device.
type listing struct {
	a       *app
	name    string
	info    dm.Info
	many    bool
	matched bool
}

// silent reports whether a command is run instead.
func (l *listing) silent() bool { return l.a.executing && l.a.exec != "" && l.a.verbose == 0 }

func (l *listing) concise() bool { return l.a.concise && l.a.command == "table" }

func (l *listing) line(line dm.Line) {
	defer func() { l.matched = true }()
	a := l.a
	switch {
	case l.silent():
		return
	case a.command == "ls":
		a.printf("%s\t(%d, %d)\n", l.name, l.info.Dev.Major, l.info.Dev.Minor)
		return
	case l.concise():
		if !l.matched {
			a.conciseHead(l.name, l.info)
		}
	default:
		if !l.matched && a.verbose > 0 {
			a.display(l.info)
		}
		if l.many && a.verbose == 0 {
			a.printf("%s: ", l.name)
		}
	}
	if line.Type != "" {
		params := line.Params
		if a.command == "table" && !a.showkeys {
			params = dm.Hide(line.Type, params)
		}
		if l.concise() {
			a.out.WriteByte(',')
			params = []byte(quoteConcise(string(params)))
		}
		a.printf("%d %d %s ", line.Start, line.Length, line.Type)
		a.out.Write(params)
	}
	if !l.concise() {
		a.out.WriteByte('\n')
	}
}

func (l *listing) end() bool {
	a := l.a
	if l.many && a.verbose > 0 && l.matched && a.command != "ls" && (!l.concise() || a.verbose > 1) {
		a.out.WriteByte('\n')
	}
	if l.matched && a.executing && a.exec != "" {
		return a.execute(l.name)
	}
	return true
}

// maxExec is how many words --exec may have.
const maxExec = 256

// execute runs --exec with the path of a device.
func (a *app) execute(name string) bool {
	node, ok := a.newName("name", name)
	if !ok {
		return false
	}
	if err := a.dm().MakeNodes(node); err != nil {
		return a.fail(err)
	}
	words := strings.Fields(a.exec)
	switch {
	case len(words) == 0:
		return false
	case len(words) >= maxExec:
		a.errorf("Too many args to --exec.")
		return false
	}
	a.out.Flush()
	cmd := exec.Command(words[0], append(words[1:], a.dir+"mapper/"+name)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Run() // its failure is its own
	return true
}

func infoVerb(a *app, args []string, device *dm.Listed, _ bool) bool {
	if device == nil && len(args) == 0 && !a.byOption() {
		return a.all(infoVerb, false)
	}
	c, ref, ok := a.about(device, args)
	if !ok {
		return false
	}
	info, err := c.Info(ref, a.query())
	if err != nil {
		return a.fail(err)
	}
	return a.display(info)
}

// display shows a device, or adds it to the report.
func (a *app) display(info dm.Info) bool {
	if a.columns && a.report != nil {
		return a.report.add(a, &row{info: info})
	}
	a.printf("Name:              %s\n", a.shown(info.Name))
	state := "ACTIVE"
	if info.Suspended {
		state = "SUSPENDED"
	}
	if info.ReadOnly {
		state += " (READ-ONLY)"
	}
	if info.DeferredRemove {
		state += " (DEFERRED REMOVE)"
	}
	a.printf("State:             %s\n", state)
	if n, err := dm.ReadAhead(info.Dev); err == nil {
		a.printf("Read Ahead:        %d\n", n)
	}
	tables := "None"
	switch {
	case info.Live && info.Inactive:
		tables = "LIVE & INACTIVE"
	case info.Live:
		tables = "LIVE"
	case info.Inactive:
		tables = "INACTIVE"
	}
	a.printf("Tables present:    %s\n", tables)
	if info.OpenCount != -1 {
		a.printf("Open count:        %d\n", info.OpenCount)
	}
	a.printf("Event number:      %d\n", info.Event)
	a.printf("Major, minor:      %d, %d\n", info.Dev.Major, info.Dev.Minor)
	if info.Targets != -1 {
		a.printf("Number of targets: %d\n", info.Targets)
	}
	if info.UUID != "" {
		a.printf("UUID: %s\n", a.shown(info.UUID))
	}
	a.out.WriteByte('\n')
	return true
}

// called is a device as -o has it, or else in a form of its number.
func (a *app) called(d dm.Dev, number string) string {
	name, err := "", error(nil)
	switch a.naming {
	case byKernelName:
		name, err = dm.KernelName(d)
	case byMappedName:
		name, err = dm.MappedName(d)
	}
	if name == "" || err != nil {
		return number
	}
	return name
}

func depsVerb(a *app, args []string, device *dm.Listed, many bool) bool {
	if device == nil && len(args) == 0 && !a.byOption() {
		return a.all(depsVerb, false)
	}
	c, ref, ok := a.about(device, args)
	if !ok {
		return false
	}
	info, deps, err := c.Deps(ref, a.query())
	if err != nil {
		return a.fail(err)
	}
	name := a.shown(info.Name)
	if device == nil && len(args) > 0 {
		name = args[0]
	}
	if a.verbose > 0 {
		a.display(info)
	}
	if many && a.verbose == 0 {
		a.printf("%s: ", name)
	}
	a.printf("%d dependencies\t:", len(deps))
	for _, d := range deps {
		a.printf(" (%s)", a.called(d, strings.Replace(d.String(), ":", ", ", 1)))
	}
	a.out.WriteByte('\n')
	if many && a.verbose > 0 {
		a.out.WriteByte('\n')
	}
	return true
}

func lsVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	switch {
	case a.withTarget && a.target != "" || a.executing && a.exec != "":
		return statusVerb(a, args, nil, false)
	case a.tree:
		return a.showTree()
	}
	return a.all(func(a *app, _ []string, d *dm.Listed, _ bool) bool {
		a.printf("%s\t(%s)\n", a.shown(d.Name), a.called(d.Dev, d.Dev.String()))
		return true
	}, false)
}
