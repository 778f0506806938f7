package main

import (
	"fmt"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// repeat says whether a verb takes several devices.
type repeat int

const (
	once repeat = iota
	many
	manySelected // also chosen by --select
)

// verb is a command. run gets the arguments from its own on, or a device of the list
// of all.
type verb struct {
	name     string
	help     string
	min, max int // arguments; -1 is any number
	repeat   repeat
	run      func(a *app, args []string, device *dm.Listed, many bool) bool
}

// verbs are in the order of the help. It is a function as some run others.
func verbs() []verb {
	return []verb{
		{"help", "[-c|-C|--columns]", 0, 0, once, helpVerb},
		{"create", "<dev_name>\n" +
			"\t    [-j|--major <major> -m|--minor <minor>]\n" +
			"\t    [-U|--uid <uid>] [-G|--gid <gid>] [-M|--mode <octal_mode>]\n" +
			"\t    [-u|--uuid <uuid>] [--addnodeonresume|--addnodeoncreate]\n" +
			"\t    [--readahead {[+]<sectors>|auto|none}]\n" +
			"\t    [-n|--notable|--table {<table>|<table_file>}]\n" +
			"\tcreate --concise [<concise_device_spec_list>]", 0, 2, once, createVerb},
		{"remove", "[--deferred] [-f|--force] [--retry] <device>...", 0, -1, manySelected, removeVerb},
		{"remove_all", "[-f|--force]", 0, 0, once, removeAllVerb},
		{"suspend", "[--noflush] [--nolockfs] <device>...", 0, -1, manySelected, suspendVerb},
		{"resume", "[--noflush] [--nolockfs] <device>...\n" +
			"\t       [--addnodeonresume|--addnodeoncreate]\n" +
			"\t       [--readahead {[+]<sectors>|auto|none}]", 0, -1, manySelected, resumeVerb},
		{"load", "<device> [<table>|<table_file>]", 0, 2, once, loadVerb},
		{"clear", "<device>", 0, -1, manySelected, clearVerb},
		{"reload", "<device> [<table>|<table_file>]", 0, 2, once, loadVerb},
		{"wipe_table", "[-f|--force] [--noflush] [--nolockfs] <device>...", 0, -1, manySelected, wipeTableVerb},
		{"rename", "<device> [--setuuid] <new_name_or_uuid>", 1, 2, once, renameVerb},
		{"measure", "[<device>...]", 0, -1, manySelected, statusVerb},
		{"message", "<device> <sector> <message>", 2, -1, once, messageVerb},
		{"ls", "[--target <target_type>] [--exec <command>] [-o <options>] [--tree]", 0, 0, once, lsVerb},
		{"info", "[<device>...]", 0, -1, many, infoVerb},
		{"deps", "[-o <options>] [<device>...]", 0, -1, manySelected, depsVerb},
		{"status", "[<device>...] [--noflush] [--target <target_type>]", 0, -1, manySelected, statusVerb},
		{"table", "[<device>...] [--concise] [--target <target_type>] [--showkeys]", 0, -1, manySelected, statusVerb},
		{"wait", "<device> [<event_nr>] [--noflush]", 0, 2, once, waitVerb},
		{"mknodes", "[<device>...]", 0, -1, many, mknodesVerb},
		{"mangle", "[<device>...]", 0, -1, many, mangleVerb},
		{"udevcreatecookie", "", 0, 0, once, udevCreateCookieVerb},
		{"udevreleasecookie", "[<cookie>]", 0, 1, once, udevReleaseCookieVerb},
		{"udevflags", "<cookie>", 1, 1, once, udevFlagsVerb},
		{"udevcomplete", "<cookie>", 1, 1, once, udevCompleteVerb},
		{"udevcomplete_all", "[<age_in_minutes>]", 0, 1, once, udevCompleteAllVerb},
		{"udevcookies", "", 0, 0, once, udevCookiesVerb},
		{"target-version", "[<target>...]", 1, -1, many, targetVersionVerb},
		{"targets", "", 0, 0, once, targetsVerb},
		{"version", "", 0, 0, once, versionVerb},
		{"setgeometry", "<device> <cyl> <head> <sect> <start>", 5, 5, once, setGeometryVerb},
		{"splitname", "<device> [<subsystem>]", 1, 2, once, splitNameVerb},
	}
}

func find(name string) *verb {
	for _, v := range verbs() {
		if v.name == name {
			return &v
		}
	}
	return nil
}

const usageHead = `        [--version] [-h|--help [-c|-C|--columns]]
        [-v|--verbose [-v|--verbose ...]] [-f|--force]
        [--checks] [--manglename {none|hex|auto}]
        [-r|--readonly] [--noopencount] [--noflush] [--nolockfs] [--inactive]
        [--udevcookie <cookie>] [--noudevrules] [--noudevsync] [--verifyudev]
        [-y|--yes] [--readahead {[+]<sectors>|auto|none}] [--retry]
        [-c|-C|--columns] [-o <fields>] [-O|--sort <sort_fields>]
        [-S|--select <selection>] [--nameprefixes] [--noheadings]
        [--separator <separator>]

`

const usageFoot = `
<device> may be device name or (if only one) -u <uuid> or -j <major> -m <minor>
<mangling_mode> is one of 'none', 'auto' and 'hex'.
<fields> are comma-separated.  Use 'help -c' for list.
<concise_device_specification> has single-device entries separated by semi-colons:
    <name>,<uuid>,<minor>,<flags>,<table>
        where <flags> is 'ro' or 'rw' (the default) and any of <uuid>, <minor>
        and <flags> may be empty. Separate extra table lines with commas.
    E.g.: dev1,,,,0 100 linear 253:1 0,100 100 error;dev2,,,ro,0 1 error
Table_file contents may be supplied on stdin.
Options are: devno, devname, blkdevname.
Tree specific options are: ascii, utf, vt100; compact, inverted, notrunc;
                           blkdevname, [no]device, active, open, rw and uuid.

`

func (a *app) usage() {
	fmt.Fprintf(a.err, "Usage:\n\n%s\n%s", a.name, usageHead)
	for _, v := range verbs() {
		fmt.Fprintf(a.err, "\t%s %s\n", v.name, v.help)
	}
	fmt.Fprint(a.err, usageFoot)
}

func helpVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	a.usage()
	if a.columns {
		a.report = nil
		a.displayFields(true, false)
		a.errorf(" ")
	}
	return true
}

// compatible is the version of dmsetup that this one is like.
const compatible = "1.02.185"

func versionVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	a.printf("Library version:   %s (tare %s, build %s)\n", compatible, version, commit)
	a.report = nil
	c := a.dm()
	if c == nil {
		return false
	}
	a.printf("Driver version:    %s\n", c.Driver())
	return true
}
