package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

// call runs the program in this process.
func call(in string, args ...string) (out, errOut string, status int) {
	var o, e bytes.Buffer
	w := bufio.NewWriter(&o)
	status = run(append([]string{"/sbin/dmsetup"}, args...), strings.NewReader(in), w, &e)
	w.Flush()
	return o.String(), e.String(), status
}

// Options are read as getopt_long(3) reads them; what needs no kernel has an answer.
func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args, out, err string
		status         int
	}{
		{"splitname vg-lv--x-y", "VG   LV   LVLayer\nvg   lv-x y      \n", "", 0},
		{"splitname vg-lv --noh", "vg:lv:\n", "", 0},
		{"--noheadings splitname -ovg_name,lv_layer a-b-c", "a:c\n", "", 0},
		{"splitname a-b --nameprefixes --options=subsystem,vg_name", "Subsys VG\nDM_SUBSYSTEM='LVM' DM_VG_NAME='a'\n", "", 0},
		{"splitname a-b -cC --rows", "VG a\nLV b\nLVLayer \n", "", 0},
		{"udevflags 0x6A1234", "DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG='1'\nDM_UDEV_DISABLE_OTHER_RULES_FLAG='1'\nDM_UDEV_DISABLE_LIBRARY_FALLBACK_FLAG='1'\nDM_UDEV_PRIMARY_SOURCE_FLAG='1'\n", "", 0},
		{"udevcomplete 0x600000", "DM_COOKIE_COMPLETED=0x600000    \n", "", 0},
		{"--foo", "", "dmsetup: unrecognized option '--foo'\nCouldn't process command line.\n", 1},
		{"table --tar", "", "dmsetup: option '--target' requires an argument\nCouldn't process command line.\n", 1},
		{"-x", "", "dmsetup: invalid option -- 'x'\nCouldn't process command line.\n", 1},
		{"-o", "", "dmsetup: option requires an argument -- 'o'\nCouldn't process command line.\n", 1},
		{"--columns=x", "", "dmsetup: option '--columns' doesn't allow an argument\nCouldn't process command line.\n", 1},
		{"--yes --c", "", "dmsetup: option '--c' is ambiguous; possibilities: '--checks' '--columns' '--concise' '--count'\nCouldn't process command line.\n", 1},
		{"create -j 1 x", "", "Please specify both major number and minor number.\nCouldn't process command line.\n", 1},
		{"create a/b --table x", "", "Invalid format on line 1 of table .\nCommand failed.\n", 1},
		{"create a/b -n", "", "Name \"a/b\" invalid. It contains \"/\".\nCommand failed.\n", 1},
		{"create -- -x -y -z", "", "Incorrect number of arguments.\n", 1},
		{"stats list", "", "Unknown command.\n", 1},
	} {
		out, errOut, status := call("", strings.Fields(c.args)...)
		if usage := strings.Index(errOut, "Usage:"); usage >= 0 {
			errOut = errOut[:usage]
		}
		if out != c.out || errOut != c.err || status != c.status {
			t.Errorf("%s: status %d\n%s%s", c.args, status, out, errOut)
		}
	}
}

func TestConcise(t *testing.T) {
	fields, rest, why := nextConcise(`a\,b, u ,7,ro,0 8 zero,8 8 error \;; b,,,,x`)
	if want := []string{"a,b", "u ", "7", "ro", "0 8 zero\n8 8 error ;"}; why != "" || strings.Join(fields, "|") != strings.Join(want, "|") || rest != "b,,,,x" {
		t.Errorf("%q, %q, %s", fields, rest, why)
	}
	if fields, rest, why = nextConcise(rest); why != "" || len(fields) != 5 || rest != "" {
		t.Errorf("%q, %q, %s", fields, rest, why)
	}
	for _, bad := range []string{"", "a", "a,b,c,d", "a,b;", `a,,,,x\`} {
		if _, _, why := nextConcise(bad); why == "" {
			t.Errorf("%q is a device", bad)
		}
	}
	if got := quoteConcise(`a,b;c\`); got != `a\,b\;c\\` {
		t.Error(got)
	}
	_, errOut, status := call("", "create", "--concise", "a,,,rw,x 8 crypt 0011")
	if status != 1 || strings.Contains(errOut, "0011") {
		t.Errorf("%s", errOut)
	}
}

func TestSelection(t *testing.T) {
	for text, want := range map[string]bool{
		"vg_name=a": true, "vgname = 'a'": true, "vg_name!=a": false, "vg_name=~^a$": true, `vg_name!~"b"`: true,
		"vg_name=a && lv_name=x": false, "vg_name=a,lv_name=b": true, "vg_name=x || lv_name=b": true, "vg_name=x#lv_name=y": false,
		"!(vg_name=a)": false, "!(vg_name=x) && (lv_name=x || lv_layer=c)": true, "all": true,
	} {
		out, errOut, status := call("", "splitname", "a-b-c", "-S", text, "--noheadings")
		if got := out == "a:b:c\n"; got != want || status != 0 || errOut != "" {
			t.Errorf("%s: %s%s, status %d", text, out, errOut, status)
		}
	}
	for _, text := range []string{"nosuch=1", "vg_name", "vg_name~a", "vg_name=a)", "(vg_name=a", "!vg_name=a", "vg_name>1", "vg_name=~(", "vg_name='a", "=a", "help=1", "minor=x", "minor=~1", "vg_name since 1"} {
		if _, errOut, status := call("", "splitname", "a-b-c", "-S", text); status != 1 || errOut == "" {
			t.Errorf("%s: status %d, %s", text, status, errOut)
		}
	}
}

func TestSorting(t *testing.T) {
	a := &app{out: bufio.NewWriter(new(bytes.Buffer)), err: new(bytes.Buffer)}
	a.fields, a.list, a.sorted, a.sort = true, "minor", true, "-minor"
	if !a.newReport("info") {
		t.Fatal(a.err)
	}
	for _, n := range []uint32{9, 10, 1} {
		w := &row{}
		w.info.Dev.Minor = n
		if !a.report.add(a, w) {
			t.Fatal(a.err)
		}
	}
	var b bytes.Buffer
	a.out = bufio.NewWriter(&b)
	a.report.print(a)
	a.out.Flush()
	if got := strings.Fields(b.String()); strings.Join(got, " ") != "Min 10 9 1" {
		t.Error(got)
	}
}

func FuzzSelection(f *testing.F) {
	f.Add(`vg_name=~^vg && (lv_name="x" || !(minor>0))`)
	f.Fuzz(func(t *testing.T, text string) {
		call("", "splitname", "a-b", "-S", text)
	})
}

func FuzzConcise(f *testing.F) {
	f.Add(`a\,b,u,7,ro,0 8 zero,8 8 error;b,,,,x`)
	f.Fuzz(func(t *testing.T, text string) {
		for text != "" {
			_, rest, why := nextConcise(text)
			if why != "" {
				return
			}
			if len(rest) >= len(text) {
				t.Fatalf("%q is followed by %q", text, rest)
			}
			text = rest
		}
	})
}
