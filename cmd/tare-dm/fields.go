package main

import (
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// kind is what a field needs to be known.
type kind int

const (
	ofName     kind = 1 << iota // the device
	ofInfo                      // its state
	ofDeps                      // what it uses, by number
	ofTree                      // the tree of all devices
	ofParts                     // its name taken apart
	ofSelected                  // whether it is selected
)

// section is a group of fields with a heading in the help.
type section struct {
	kind   kind
	title  string
	prefix string
}

// devices have two sections with one title, which the help shows once.
var sections = []section{
	{ofName, "Mapped Device Name", "name_"},
	{ofInfo, "Mapped Device Information", "info_"},
	{ofDeps, "Mapped Device Relationship Information", "deps_"},
	{ofTree, "Mapped Device Relationship Information", "tree_"},
	{ofParts, "Mapped Device Name Components", "splitname_"},
}

// field is a column of a report.
type field struct {
	id, heading string
	kind        kind
	width       int
	number      bool
	about       string
	text        func(a *app, r *row) (string, bool)
}

// row is a device in a report, and what its fields are made of.
type row struct {
	info     dm.Info
	deps     []dm.Dev
	node     *node
	parts    splitName
	cells    []string
	selected bool
}

func decimal[T ~int | ~int32 | ~uint32](n T) (string, bool) {
	return strconv.FormatInt(int64(n), 10), true
}

func plainText(f func(a *app, r *row) string) func(*app, *row) (string, bool) {
	return func(a *app, r *row) (string, bool) { return f(a, r), true }
}

// either is one of two words.
func either(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// mangledText is a name as the kernel has it.
func mangledText(a *app, s string) (string, bool) {
	if a.mangle == mangleNone {
		return a.mangleAs(mangleAuto, "name", s)
	}
	return s, true
}

// fields are in the order of the help. It is a function as some use others.
func fields() []field {
	return []field{
		{"name", "Name", ofName, 16, false, "Name of mapped device.", plainText(func(a *app, r *row) string { return a.shown(r.info.Name) })},
		{"mangled_name", "MangledName", ofName, 16, false, "Mangled name of mapped device.", func(a *app, r *row) (string, bool) { return mangledText(a, r.info.Name) }},
		{"unmangled_name", "UnmangledName", ofName, 16, false, "Unmangled name of mapped device.", plainText(func(_ *app, r *row) string { return dm.Unmangle(r.info.Name) })},
		{"uuid", "UUID", ofName, 32, false, "Unique (optional) identifier for mapped device.", plainText(func(a *app, r *row) string { return a.shown(r.info.UUID) })},
		{"mangled_uuid", "MangledUUID", ofName, 32, false, "Mangled unique (optional) identifier for mapped device.", func(a *app, r *row) (string, bool) { return mangledText(a, r.info.UUID) }},
		{"unmangled_uuid", "UnmangledUUID", ofName, 32, false, "Unmangled unique (optional) identifier for mapped device.", plainText(func(_ *app, r *row) string { return dm.Unmangle(r.info.UUID) })},
		{"read_ahead", "RAhead", ofName, 6, true, "Read ahead value.", func(_ *app, r *row) (string, bool) {
			n, err := dm.ReadAhead(r.info.Dev)
			if err != nil {
				n = 0
			}
			return decimal(n)
		}},

		{"blkdevname", "BlkDevName", ofInfo, 16, false, "Name of block device.", func(a *app, r *row) (string, bool) { return kernelName(a, r.info.Dev) }},
		{"attr", "Stat", ofInfo, 4, false, "(L)ive, (I)nactive, (s)uspended, (r)ead-only, read-(w)rite.", plainText(func(_ *app, r *row) string {
			return either(r.info.Live, "L", "-") + either(r.info.Inactive, "I", "-") + either(r.info.Suspended, "s", "-") + either(r.info.ReadOnly, "r", "w")
		})},
		{"tables_loaded", "Tables", ofInfo, 6, false, "Which of the live and inactive table slots are filled.", plainText(func(_ *app, r *row) string {
			if r.info.Live {
				return either(r.info.Inactive, "Both", "Live")
			}
			return either(r.info.Inactive, "Inactive", "None")
		})},
		{"suspended", "Suspended", ofInfo, 9, false, "Whether the device is suspended.", plainText(func(_ *app, r *row) string { return either(r.info.Suspended, "Suspended", "Active") })},
		{"readonly", "Read-only", ofInfo, 9, false, "Whether the device is read-only or writeable.", plainText(func(_ *app, r *row) string { return either(r.info.ReadOnly, "Read-only", "Writeable") })},
		{"devno", "DevNo", ofInfo, 5, false, "Device major and minor numbers", plainText(func(_ *app, r *row) string { return r.info.Dev.String() })},
		{"major", "Maj", ofInfo, 3, true, "Block device major number.", func(_ *app, r *row) (string, bool) { return decimal(r.info.Dev.Major) }},
		{"minor", "Min", ofInfo, 3, true, "Block device minor number.", func(_ *app, r *row) (string, bool) { return decimal(r.info.Dev.Minor) }},
		{"open", "Open", ofInfo, 4, true, "Number of references to open device, if requested.", func(_ *app, r *row) (string, bool) { return decimal(r.info.OpenCount) }},
		{"segments", "Targ", ofInfo, 4, true, "Number of segments in live table, if present.", func(_ *app, r *row) (string, bool) { return decimal(r.info.Targets) }},
		{"events", "Event", ofInfo, 6, true, "Number of most recent event.", func(_ *app, r *row) (string, bool) { return decimal(r.info.Event) }},

		{"device_count", "#Devs", ofDeps, 5, true, "Number of devices used by this one.", func(_ *app, r *row) (string, bool) { return decimal(len(r.deps)) }},
		{"devs_used", "DevNamesUsed", ofTree, 16, false, "List of names of mapped devices used by this one.", plainText(func(_ *app, r *row) string { return nodeNames(r.node.uses) })},
		{"devnos_used", "DevNosUsed", ofDeps, 16, false, "List of device numbers of devices used by this one.", plainText(func(_ *app, r *row) string { return numbers(r.deps) })},
		{"blkdevs_used", "BlkDevNamesUsed", ofDeps, 16, false, "List of names of block devices used by this one.", func(a *app, r *row) (string, bool) {
			var all []string
			for _, d := range r.deps {
				name, ok := kernelName(a, d)
				if !ok {
					return "", false
				}
				all = append(all, name)
			}
			return strings.Join(all, ","), true
		}},

		{"device_ref_count", "#Refs", ofTree, 5, true, "Number of mapped devices referencing this one.", func(a *app, r *row) (string, bool) { return decimal(a.whole.users(r.node)) }},
		{"names_using_dev", "RefNames", ofTree, 8, false, "List of names of mapped devices using this one.", plainText(func(_ *app, r *row) string { return nodeNames(r.node.usedBy) })},
		{"devnos_using_dev", "RefDevNos", ofTree, 9, false, "List of device numbers of mapped devices using this one.", plainText(func(_ *app, r *row) string {
			var devs []dm.Dev
			for _, n := range r.node.usedBy {
				if n.dev != (dm.Dev{}) {
					devs = append(devs, n.dev)
				}
			}
			return numbers(devs)
		})},

		{"subsystem", "Subsys", ofParts, 6, false, "Userspace subsystem responsible for this device.", plainText(func(_ *app, r *row) string { return r.parts.subsystem })},
		{"vg_name", "VG", ofParts, 4, false, "LVM Volume Group name.", plainText(func(_ *app, r *row) string { return r.parts.group })},
		{"lv_name", "LV", ofParts, 4, false, "LVM Logical Volume name.", plainText(func(_ *app, r *row) string { return r.parts.volume })},
		{"lv_layer", "LVLayer", ofParts, 7, false, "LVM device layer.", plainText(func(_ *app, r *row) string { return r.parts.layer })},
	}
}

// special are fields that come with every report. The last two ask for help.
func special() []field {
	return []field{
		{"selected", "Selected", ofSelected, 8, true, "Set if item passes selection criteria.", func(_ *app, r *row) (string, bool) {
			return either(r.selected, "1", "0"), true
		}},
		{"help", "Help", ofSelected, 8, true, "Show help.", nil},
		{"?", "Help", ofSelected, 8, true, "Show help.", nil},
	}
}

func kernelName(a *app, d dm.Dev) (string, bool) {
	name, err := dm.KernelName(d)
	if err != nil {
		a.errorf("Could not resolve block device name for %s.", d)
		return "", false
	}
	return name, true
}

func nodeNames(nodes []*node) string {
	var all []string
	for _, n := range nodes {
		if n.name != "" {
			all = append(all, n.name)
		}
	}
	return strings.Join(all, ",")
}

func numbers(devs []dm.Dev) string {
	all := make([]string, len(devs))
	for i, d := range devs {
		all[i] = d.String()
	}
	return strings.Join(all, ",")
}

// splitName is a name of LVM's, taken apart.
type splitName struct{ subsystem, group, volume, layer string }

// split takes a name apart if its subsystem is LVM: hyphens separate the parts, two of
// them are one.
func split(subsystem, name string) splitName {
	s := splitName{subsystem: subsystem}
	if subsystem == "LVM" {
		s.group, name = unquote(name)
		s.volume, name = unquote(name)
		s.layer, _ = unquote(name)
	}
	return s
}

func unquote(s string) (part, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '-' && i+1 < len(s) {
			if s[i+1] != '-' {
				return b.String(), s[i+1:]
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

func splitNameVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	subsystem := "LVM"
	if len(args) == 2 {
		subsystem = args[1]
	}
	return a.report.add(a, &row{parts: split(subsystem, args[0])})
}

// displayFields is the help on fields: with those that stand for a section, or with
// their types.
func (a *app) displayFields(all, types bool) {
	list := fields()
	width := 0
	for _, f := range list {
		width = max(width, len(f.id))
	}
	for _, s := range sections {
		width = max(width, len(s.prefix)+3)
	}
	last := ""
	for _, f := range list {
		for _, s := range sections {
			if s.kind != f.kind || s.title == last {
				continue
			}
			a.fieldsHead(s.title, last != "")
			last = s.title
			if all {
				a.errorf("  %-*s - All fields in this section.", width, s.prefix+"all")
			}
		}
		a.fieldLine(f, width, types)
	}
	a.errorf(" ")
	a.fieldsHead("Special", false)
	for _, f := range special() {
		a.fieldLine(f, width, types)
	}
}

func (a *app) fieldsHead(title string, space bool) {
	if space {
		a.errorf(" ")
	}
	a.errorf("%s Fields", title)
	a.errorf("%s", strings.Repeat("-", len(title)+len(" Fields")))
}

func (a *app) fieldLine(f field, width int, types bool) {
	kind := ""
	if types {
		kind = " [" + either(f.text == nil, "unselectable ", "") + either(f.number, "number", "string") + "]"
	}
	a.errorf("  %-*s - %s%s", width, f.id, f.about, kind)
}
