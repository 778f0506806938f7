package main

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// tree is all devices and what they use. Its root uses what nothing else uses, and is
// used by what uses nothing: so it is walked from both ends.
type tree struct {
	root  *node
	nodes map[dm.Dev]*node
}

type node struct {
	name   string
	dev    dm.Dev
	info   *dm.Info // nil: it is no mapped device
	uses   []*node
	usedBy []*node
}

// wholeTree is the tree of all devices, made once.
func (a *app) wholeTree() (*tree, bool) {
	if a.whole != nil {
		return a.whole, true
	}
	t := &tree{root: &node{}, nodes: map[dm.Dev]*node{}}
	major, err := dm.Major()
	if err != nil {
		a.errorf("%s", err)
		return nil, false
	}
	a.whole = t
	return t, a.all(func(a *app, _ []string, d *dm.Listed, _ bool) bool { return a.grow(t, t.root, d.Dev, major) }, false)
}

// grow adds a device, and what it uses, below another.
func (a *app) grow(t *tree, parent *node, dev dm.Dev, major uint32) bool {
	n := t.nodes[dev]
	if n != nil {
		t.link(parent, n)
		return true
	}
	n = &node{dev: dev}
	var deps []dm.Dev
	if dev.Major == major {
		info, uses, err := a.dm().Deps(dm.Number(dev), dm.Query{})
		if err != nil {
			return a.fail(err)
		}
		n.name, n.info, deps = a.shown(info.Name), &info, uses
	}
	t.nodes[dev] = n
	t.link(parent, n)
	if len(deps) == 0 {
		t.link(n, t.root)
	}
	for _, d := range deps {
		if !a.grow(t, n, d, major) {
			return false
		}
	}
	return true
}

// link notes that parent uses child; the root only where nothing else does.
func (t *tree) link(parent, child *node) {
	switch {
	case parent == t.root && t.users(child) > 0, child == t.root && t.used(parent) > 0:
		return
	}
	if parent != t.root {
		t.cut(t.root, child)
	}
	if child != t.root {
		t.cut(parent, t.root)
	}
	if !slices.Contains(parent.uses, child) {
		parent.uses = append(parent.uses, child)
		child.usedBy = append(child.usedBy, parent)
	}
}

func (t *tree) cut(parent, child *node) {
	parent.uses = slices.DeleteFunc(parent.uses, func(n *node) bool { return n == child })
	child.usedBy = slices.DeleteFunc(child.usedBy, func(n *node) bool { return n == parent })
}

// users is how many use a device.
func (t *tree) users(n *node) int {
	if slices.Contains(n.usedBy, t.root) {
		return 0
	}
	return len(n.usedBy)
}

// used is how many a device uses.
func (t *tree) used(n *node) int {
	if slices.Contains(n.uses, t.root) {
		return 0
	}
	return len(n.uses)
}

// drawing is how a tree is drawn.
type drawing struct {
	device, kernelName, active, rw, open, uuid, compact, truncate, inverted bool
	symbols                                                                 symbols
	width                                                                   int // of the screen

	x            int // the column that comes next, from 1
	last         byte
	widths, more [maxDepth]int
}

// maxDepth is where drawing ends.
const maxDepth = 100

type symbols struct{ empty, branch, vertical, last, single, first string }

var (
	asciiSymbols = symbols{"  ", "|-", "| ", "`-", "---", "-+-"}
	utfSymbols   = symbols{"  ", "├─", "│ ", "└─", "───", "─┬─"}
	vtSymbols    = symbols{"  ", vt("tq"), vt("x") + " ", vt("mq"), vt("qqq"), vt("qwq")}
)

// vt is in the graphic characters of a VT100.
func vt(s string) string { return "\x1b(0\x0f" + s + "\x1b(B" }

// treeOptions reads -o of ls --tree.
func (a *app) treeOptions() bool {
	d := &a.drawing
	*d = drawing{device: true, truncate: true, width: 80, x: 1, symbols: asciiSymbols}
	if utf8Locale() {
		d.symbols = utfSymbols
	}
	options := []struct {
		word string
		set  func()
	}{
		{"device", func() { d.device = true }}, {"blkdevname", func() { d.kernelName = true }}, {"nodevice", func() { d.device = false }},
		{"active", func() { d.active = true }}, {"open", func() { d.open = true }}, {"uuid", func() { d.uuid = true }}, {"rw", func() { d.rw = true }},
		{"utf", func() { d.symbols = utfSymbols }}, {"vt100", func() { d.symbols = vtSymbols }}, {"ascii", func() { d.symbols = asciiSymbols }},
		{"inverted", func() { d.inverted = true }}, {"compact", func() { d.compact = true }}, {"notrunc", func() { d.truncate = false }},
	}
	rest := a.list
	for a.fields && rest != "" {
		word, after, _ := strings.Cut(rest, ",")
		i := slices.IndexFunc(options, func(o struct {
			word string
			set  func()
		}) bool {
			return strings.HasPrefix(o.word, word)
		})
		if i < 0 {
			a.errorf("Tree options not recognised: %s.", rest)
			return false
		}
		options[i].set()
		rest = after
	}
	if d.symbols != vtSymbols { // its characters cannot be counted
		if n := screenWidth(); n > 3 {
			d.width = n - 3
		}
	}
	d.compact = d.compact && !d.active && !d.rw && !d.open && !d.uuid
	return true
}

// utf8Locale reports whether the locale's characters are UTF-8.
func utf8Locale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.HasSuffix(v, ".utf-8") || strings.HasSuffix(v, ".utf8")
		}
	}
	return false
}

func (a *app) showTree() bool {
	t, ok := a.wholeTree()
	if t != nil {
		a.drawChildren(t, t.root, 0)
	}
	return ok
}

func (a *app) drawChildren(t *tree, n *node, depth int) {
	below, count := n.uses, t.used
	if a.drawing.inverted {
		below, count = n.usedBy, t.users
	}
	for i, child := range below {
		has := count(child) > 0
		a.drawNode(child, depth, i == len(below)-1, has)
		if has {
			a.drawChildren(t, child, depth+1)
		}
	}
}

func (a *app) drawNode(n *node, depth int, last, children bool) {
	d := &a.drawing
	if depth+2 > maxDepth || n.name == "" && !d.device && !d.kernelName {
		return
	}
	d.more[depth], d.widths[depth] = 0, 0
	if !last {
		d.more[depth] = 1
	}
	begin := d.x == 1
	if !d.compact || begin {
		a.drawPrefix(depth)
	}
	offset := d.x
	if d.compact && !begin {
		a.draw(map[bool]string{true: d.symbols.single, false: d.symbols.first}[last])
	}
	a.draw(n.name)
	if d.kernelName {
		if name, err := dm.KernelName(n.dev); err == nil {
			a.draw(" <" + name + ">")
		}
	}
	if d.device {
		a.draw(" (" + n.dev.String() + ")")
	}
	a.drawAttributes(n)
	if d.compact {
		d.widths[depth] = d.x - offset
	}
	if !d.compact || !children {
		a.drawNewline()
	}
}

func (a *app) drawAttributes(n *node) {
	d := &a.drawing
	if n.info == nil {
		return
	}
	var all []string
	if d.active {
		all = append(all, map[bool]string{true: "SUSPENDED", false: "ACTIVE"}[n.info.Suspended])
	}
	if d.rw {
		all = append(all, map[bool]string{true: "RO", false: "RW"}[n.info.ReadOnly])
	}
	if d.open {
		all = append(all, strconv.FormatUint(uint64(uint32(n.info.OpenCount)), 10))
	}
	if d.uuid {
		all = append(all, a.shown(n.info.UUID))
	}
	if all != nil {
		a.draw(" [" + strings.Join(all, ", ") + "]")
	}
}

func (a *app) drawPrefix(depth int) {
	d := &a.drawing
	for i := range depth {
		a.draw(strings.Repeat(" ", d.widths[i]+1))
		switch {
		case i == depth-1 && d.more[depth] == 0:
			a.draw(d.symbols.last)
		case i == depth-1:
			a.draw(d.symbols.branch)
		case d.more[i+1] != 0:
			a.draw(d.symbols.vertical)
		default:
			a.draw(d.symbols.empty)
		}
	}
}

// draw writes text, up to the edge of the screen: the character there is kept until
// it is known whether more come, for which there are dots.
func (a *app) draw(s string) {
	d := &a.drawing
	for i := range len(s) {
		c := s[i]
		first := c&0xc0 != 0x80 // of a character
		if first {
			d.x++
		}
		if !d.truncate || d.x <= d.width {
			a.out.WriteByte(c)
			continue
		}
		if d.x == d.width+1 && first {
			if d.last != 0 || c&0x80 != 0 {
				a.out.WriteString("...")
			} else {
				d.last = c
				d.x--
			}
		}
	}
}

func (a *app) drawNewline() {
	d := &a.drawing
	if d.last != 0 && d.x == d.width {
		a.out.WriteByte(d.last)
	}
	d.last, d.x = 0, 1
	a.out.WriteByte('\n')
}
