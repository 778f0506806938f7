package main

import (
	"slices"
	"strconv"
	"strings"
)

// report is a list of devices with columns.
type report struct {
	columns   []*column
	kinds     kind
	separator string
	selection *selection
	rows      []*row

	aligned, buffered, headings, prefixes, quoted, byRows bool
	headed                                                bool // headings are printed
	helped                                                bool // help was asked for, and given
}

// column is a field in a report, or only for sorting and selecting.
type column struct {
	field
	hidden     bool
	sorts      int // place among the sort keys, from 1
	descending bool
	wide       int
}

const (
	infoFields  = "name,major,minor,attr,open,segments,events,uuid"
	splitFields = "vg_name,lv_name,lv_layer"
)

// newReport makes the report of a verb, from the options.
func (a *app) newReport(verb string) bool {
	r := &report{separator: " ", aligned: true, headings: true, buffered: true, quoted: true}
	list := infoFields
	if verb == "splitname" {
		list = splitFields
		r.kinds = ofParts
	}
	if a.noheadings {
		r.separator, r.aligned, r.headings = ":", false, false
	}
	r.buffered, r.byRows, r.quoted = !a.unbuffered, a.rows, !a.unquoted
	if a.nameprefixes {
		r.aligned, r.prefixes = false, true
	}
	if a.fields {
		if strings.Contains(a.list, "help") {
			r.headings = false
		}
		if more, ok := strings.CutPrefix(a.list, "+"); ok {
			list += "," + more
		} else {
			list = a.list
		}
	}
	if a.sorted {
		r.buffered = true
		if verb == "status" || verb == "table" {
			a.errorf("--sort is not yet supported with status and table.")
			return false
		}
	}
	if a.separated {
		r.separator, r.aligned = a.separator, false
	}
	if r.byRows {
		r.buffered, r.aligned = true, false
	}
	if !r.addFields(a, list) || a.sorted && !r.addKeys(a) {
		return false
	}
	if slices.ContainsFunc(r.columns, func(c *column) bool { return c.text == nil }) {
		a.displayFields(true, false)
		a.errorf(" ")
		r.helped = true
	}
	if a.selecting && !r.selectRows(a) {
		return false
	}
	a.report = r
	for _, c := range r.columns {
		r.kinds |= c.kind
	}
	if r.kinds&ofTree != 0 {
		_, ok := a.wholeTree()
		return ok
	}
	return true
}

// canonical is a name without underscores, in which fields are compared.
func canonical(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }

// match finds a field by name, which may go without a prefix of its section.
func (r *report) match(name string) *field {
	name = canonical(name)
	prefix := ""
	for _, s := range sections {
		if s.kind == r.kinds {
			prefix = canonical(s.prefix)
		}
	}
	for _, list := range [][]field{special(), fields()} {
		for _, f := range list {
			if id := canonical(f.id); id == name || prefix != "" && id == prefix+name {
				return &f
			}
		}
	}
	return nil
}

// section is what a name like info_all stands for.
func (r *report) section(name string) (k kind) {
	if strings.EqualFold(name, "all") {
		for _, s := range sections {
			k |= s.kind
		}
		if r.kinds != 0 {
			k = r.kinds
		}
		return k
	}
	for _, s := range sections {
		if canonical(name) == canonical(s.prefix)+"all" {
			k |= s.kind
		}
	}
	return k
}

func (r *report) addFields(a *app, list string) bool {
	for _, name := range splitList(list) {
		if f := r.match(name); f != nil {
			r.columns = append(r.columns, &column{field: *f})
			continue
		}
		k := r.section(name)
		if k == 0 {
			a.displayFields(true, false)
			a.errorf(" ")
			a.errorf("Unrecognised field: %s", name)
			return false
		}
		for _, f := range fields() {
			if f.kind&k != 0 {
				r.columns = append(r.columns, &column{field: f})
			}
		}
	}
	return true
}

// splitList separates words at commas. Several commas are one, but the last word
// must be there.
func splitList(list string) []string {
	var words []string
	for list != "" {
		list = strings.TrimLeft(list, ",")
		word, _, _ := strings.Cut(list, ",")
		words = append(words, word)
		list = list[len(word):]
	}
	return words
}

func (r *report) addKeys(a *app) bool {
	n := 0
	for _, name := range splitList(a.sort) {
		key := strings.TrimPrefix(name, "+")
		descending := false
		if key == name {
			key = strings.TrimPrefix(name, "-")
			descending = key != name
		}
		f := r.match(key)
		if f == nil || key == "" {
			if key == "" && name != "" {
				a.errorf("dm_report: Missing sort field name")
			}
			a.displayFields(true, false)
			a.errorf(" ")
			a.errorf("dm_report: Unrecognised field: %s", name)
			return false
		}
		c := r.column(*f)
		if c.sorts > 0 {
			a.errorf("dm_report: Ignoring duplicate sort field: %s.", f.id)
			continue
		}
		n++
		c.sorts, c.descending = n, descending
	}
	return true
}

// column is that of a field; a hidden one is added if there is none.
func (r *report) column(f field) *column {
	for _, c := range r.columns {
		if c.id == f.id {
			return c
		}
	}
	c := &column{field: f, hidden: true}
	r.columns = slices.Insert(r.columns, 0, c)
	return c
}

// add adds a device, or runs the verb that the selection is for.
func (r *report) add(a *app, w *row) bool {
	if r.helped {
		return true
	}
	if r.kinds&ofDeps != 0 {
		_, deps, err := a.dm().Deps(w.info.Ref(), a.query())
		if err != nil {
			a.fail(err)
			a.errorf("Cannot get deps for %s.", w.info.Dev)
			return false
		}
		w.deps = deps
	}
	if r.kinds&ofTree != 0 {
		if w.node = a.whole.nodes[w.info.Dev]; w.node == nil {
			a.errorf("Cannot find node %s.", w.info.Dev)
			return false
		}
	}
	if r.kinds&ofParts != 0 && w.parts == (splitName{}) {
		subsystem, _, ok := strings.Cut(w.info.UUID, "-")
		if !ok {
			subsystem = ""
		}
		w.parts = split(subsystem, a.shown(w.info.Name))
	}
	w.selected = true
	if !r.fill(a, w) {
		return false
	}
	if r.selection != nil && !r.selection.matches(r, w) {
		w.selected = false
		if !r.fill(a, w) {
			return false
		}
	}
	if a.selected != nil {
		if !w.selected {
			return true
		}
		// The verb is not a report.
		columns := a.columns
		a.columns = false
		defer func() { a.columns = columns }()
		return a.selected.run(a, []string{a.shown(w.info.Name)}, nil, true)
	}
	shows := slices.ContainsFunc(r.columns, func(c *column) bool { return c.id == "selected" && !c.hidden })
	if !w.selected && !shows {
		return true
	}
	r.rows = append(r.rows, w)
	if !r.buffered {
		r.print(a)
	}
	return true
}

func (r *report) fill(a *app, w *row) bool {
	w.cells = w.cells[:0]
	for _, c := range r.columns {
		text, ok := c.text(a, w)
		if !ok {
			a.errorf("_do_report_object: report function failed for field %s", c.id)
			return false
		}
		w.cells = append(w.cells, text)
	}
	return true
}

// print prints what has been added, and forgets it.
func (r *report) print(a *app) {
	if len(r.rows) == 0 || r.helped {
		return
	}
	for i, c := range r.columns {
		c.wide = max(c.wide, c.width)
		for _, w := range r.rows {
			c.wide = max(c.wide, len(w.cells[i]))
		}
	}
	if r.buffered {
		slices.SortStableFunc(r.rows, r.compare)
	}
	if r.byRows {
		r.printByRows(a)
	} else {
		r.printLines(a)
	}
	r.rows = nil
	if !r.buffered { // more rows follow
		return
	}
	r.headed = false
	for _, c := range r.columns {
		c.wide = 0
	}
}

func (r *report) compare(x, y *row) int {
	keys := make([]int, 0, len(r.columns))
	for i, c := range r.columns {
		if c.sorts > 0 {
			keys = append(keys, i)
		}
	}
	slices.SortFunc(keys, func(i, j int) int { return r.columns[i].sorts - r.columns[j].sorts })
	for _, i := range keys {
		c := r.columns[i]
		n := strings.Compare(x.cells[i], y.cells[i])
		if c.number {
			n = compareNumbers(x.cells[i], y.cells[i])
		}
		if n == 0 {
			continue
		}
		if c.descending {
			return -n
		}
		return n
	}
	return 0
}

// unsigned is a number of a cell; negative ones are large, as dmsetup has them.
func unsigned(s string) uint64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return uint64(n)
}

func compareNumbers(x, y string) int {
	a, b := unsigned(x), unsigned(y)
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (r *report) printLines(a *app) {
	if r.headings && !r.headed {
		var parts []string
		for _, c := range r.columns {
			if c.hidden {
				continue
			}
			text := c.heading
			if r.aligned {
				text = pad(text, c.wide, false)
			}
			parts = append(parts, text)
		}
		a.printf("%s\n", strings.Join(parts, r.separator))
		r.headed = true
	}
	for _, w := range r.rows {
		var parts []string
		for i, c := range r.columns {
			if !c.hidden {
				parts = append(parts, r.cell(c, w.cells[i]))
			}
		}
		a.printf("%s\n", strings.Join(parts, r.separator))
	}
}

func (r *report) printByRows(a *app) {
	for i, c := range r.columns {
		if c.hidden {
			continue
		}
		var parts []string
		if r.headings {
			parts = append(parts, c.heading)
		}
		for _, w := range r.rows {
			parts = append(parts, r.cell(c, w.cells[i]))
		}
		a.printf("%s\n", strings.Join(parts, r.separator))
	}
}

func (r *report) cell(c *column, text string) string {
	if r.aligned {
		text = pad(text, c.wide, c.number)
	}
	if !r.prefixes {
		return text
	}
	quote := either(r.quoted, "'", "")
	return "DM_" + strings.ToUpper(c.id) + "=" + quote + text + quote
}

// pad brings text to a width.
func pad(s string, width int, right bool) string {
	if len(s) >= width {
		return s[:width]
	}
	space := strings.Repeat(" ", width-len(s))
	if right {
		return space + s
	}
	return s + space
}
