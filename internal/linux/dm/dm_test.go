package dm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const testKey = "00112233445566778899aabbccddeeff"

func line(start, length uint64, target, params string) Line {
	return Line{Start: start, Length: length, Type: target, Params: []byte(params)}
}

func TestLifeOfADevice(t *testing.T) {
	c, f := newFake(t)
	table := Table{line(0, 8, "linear", "7:1 0"), line(8, 8, "striped", `2 8 7:1 0 /dev/a\x20b 0`)}
	info, err := c.Activate("a", table, CreateOptions{UUID: "u-a"})
	if err != nil {
		t.Fatal(err)
	}
	if info.Dev != (Dev{fakeMajor, 0}) || !info.Live || info.Inactive || info.Suspended || info.Targets != 2 {
		t.Errorf("%+v", info)
	}
	for _, ref := range []Ref{Name("a"), UUID("u-a"), Number(info.Dev)} {
		_, got, err := c.Table(ref, Query{})
		if err != nil || got.String() != table.String() || got.Length() != 16 {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
	if _, err := c.Load(Name("a"), Table{line(0, 9, "zero", "")}, LoadOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info(Name("a"), Query{}); err != nil || !i.Inactive || !i.ReadOnly {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := c.Clear(Name("a")); err != nil || i.Inactive {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := c.Suspend(Name("a"), SuspendOptions{NoFlush: true}); err != nil || !i.Suspended {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err := c.Resume(Name("a"), SuspendOptions{}); err != nil || i.Suspended {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := c.Rename(UUID("u-a"), "b"); err != nil {
		t.Error(err)
	}
	if _, err := c.SetUUID(Name("b"), "u-b"); err != nil {
		t.Error(err)
	}
	all, err := c.List()
	if err != nil || !reflect.DeepEqual(all, []Listed{{"b", "u-b", info.Dev, 2}}) {
		t.Errorf("%+v, %v", all, err)
	}
	_, deps, err := c.Deps(Name("b"), Query{})
	if err != nil || !reflect.DeepEqual(deps, []Dev{{7, 1}, {fakeMajor, 300}}) {
		t.Errorf("%v, %v", deps, err)
	}
	if got, err := c.Message(Name("b"), 3, []byte("answer this")); err != nil || string(got) != "this" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := c.Message(Name("b"), 0, []byte("nothing")); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
	if err := c.SetGeometry(Name("b"), Geometry{1, 2, 3, 0}); err != nil {
		t.Error(err)
	}
	if err := c.Remove(Number(info.Dev), RemoveOptions{}); err != nil || len(f.devices) != 0 {
		t.Error(err)
	}
	if all, err := c.List(); err != nil || all != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

// A device without a table answers all questions.
func TestNoTable(t *testing.T) {
	c, _ := newFake(t)
	info, err := c.Create("a", CreateOptions{})
	if err != nil || info.Live {
		t.Errorf("%+v, %v", info, err)
	}
	for _, ask := range []func(Ref, Query) (Info, Table, error){c.Table, c.Status} {
		if _, lines, err := ask(Name("a"), Query{}); err != nil || len(lines) != 0 {
			t.Errorf("%v, %v", lines, err)
		}
	}
	if _, deps, err := c.Deps(Name("a"), Query{}); err != nil || len(deps) != 0 {
		t.Errorf("%v, %v", deps, err)
	}
}

func TestTargets(t *testing.T) {
	c, _ := newFake(t)
	all, err := c.Targets()
	want := []TargetVersion{{"linear", Version{1, 4, 0}}, {"crypt", Version{1, 24, 0}}}
	if err != nil || !reflect.DeepEqual(all, want) {
		t.Errorf("%+v, %v", all, err)
	}
	if one, err := c.Target("linear"); err != nil || one != want[0] {
		t.Errorf("%+v, %v", one, err)
	}
	if s := want[1].Version.String(); s != "1.24.0" {
		t.Error(s)
	}
}

// A device is there with its table, or not at all: whatever step fails. The error
// names the step, the device and the targets.
func TestActivateIsAllOrNothing(t *testing.T) {
	for _, op := range []Op{OpCreate, OpLoad, OpResume} {
		c, f := newFake(t)
		f.fail[op] = unix.EIO
		_, err := c.Activate("vol", Table{line(0, 8, "linear", "7:1 0")}, CreateOptions{})
		var e *Error
		if !errors.As(err, &e) || e.Op != op || e.Ref.Name != "vol" || !errors.Is(err, unix.EIO) {
			t.Errorf("%s: %v", op, err)
		}
		if op != OpResume && !strings.Contains(err.Error(), "[linear]") {
			t.Errorf("%s: no target in %v", op, err)
		}
		if len(f.devices) != 0 {
			t.Errorf("%s: a device is left", op)
		}
	}
}

func TestErrorsHaveKinds(t *testing.T) {
	c, f := newFake(t)
	if _, err := c.Info(Name("nosuch"), Query{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "info nosuch") {
		t.Error(err)
	}
	if err := c.Remove(UUID("nosuch"), RemoveOptions{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "remove uuid nosuch") {
		t.Error(err)
	}
	if _, err := c.Activate("a", Table{line(0, 8, "zero", "")}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create("a", CreateOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	f.devices[0].open = true
	err := c.Remove(Name("a"), RemoveOptions{})
	if !errors.Is(err, unix.EBUSY) || errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "remove a [zero]") {
		t.Error(err)
	}
	if err := c.Remove(Name("a"), RemoveOptions{Deferred: true}); err != nil {
		t.Error(err)
	}
}

// What the kernel's log says of a table is in the error.
func TestReasonsOfTheKernel(t *testing.T) {
	c, _ := newFake(t)
	c.reasons = func() func() []string {
		return func() []string {
			return []string{"device-mapper: table: 253:9: linear: another", "device-mapper: table: 253:0: nosuch: unknown target type", "device-mapper: ioctl: error adding target to table"}
		}
	}
	_, err := c.Activate("a", Table{line(0, 8, "nosuch", "")}, CreateOptions{})
	if want := "device mapper: load a (253:0) [nosuch]: invalid argument: nosuch: unknown target type"; err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestBadNamesAndTables(t *testing.T) {
	c, f := newFake(t)
	for _, name := range []string{"", ".", "..", "control", "a/b", "a b", "a\x00b", strings.Repeat("a", 128)} {
		if _, err := c.Create(name, CreateOptions{}); err == nil {
			t.Errorf("%q was made", name)
		}
	}
	for _, table := range []Table{nil, {line(0, 1, "", "")}, {line(0, 1, "sixteen-letters-", "")}, {line(0, 1, "zero", "a\x00b")}} {
		if _, err := c.Activate("a", table, CreateOptions{}); err == nil || !strings.Contains(err.Error(), "load a") {
			t.Errorf("%v: %v", table, err)
		}
	}
	if _, err := c.Create("a", CreateOptions{UUID: strings.Repeat("u", 129)}); err == nil {
		t.Error("a UUID that is too long")
	}
	if len(f.devices) != 0 {
		t.Errorf("%d devices are left", len(f.devices))
	}
}

func TestOldDriver(t *testing.T) {
	for _, v := range []Version{{3, 99, 0}, {4, 42, 9}, {5, 0, 0}} {
		c, f := newFake(t)
		f.version = v
		if err := c.checkVersion(); err == nil || !strings.Contains(err.Error(), v.String()) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// The buffer grows until the answer fits, and not without end.
func TestAnswersOfAnySize(t *testing.T) {
	c, f := newFake(t)
	var table Table
	for i := range 3000 {
		table = append(table, line(uint64(i), 1, "linear", fmt.Sprintf("7:1 %d", i)))
	}
	if _, err := c.Activate("a", table, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Table(Name("a"), Query{}); err != nil || got.String() != table.String() {
		t.Errorf("%d lines, %v", len(got), err)
	}
	f.answers = 1 << 40
	if _, err := c.List(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Error(err)
	}
}

// No buffer that went to the kernel has a key afterwards.
func TestBuffersAreWiped(t *testing.T) {
	c, f := newFake(t)
	seen := 0
	f.before = func(_ Op, buf []byte) {
		if bytes.Contains(buf, []byte(testKey)) {
			seen++
			if native.Uint32(buf[offFlags:])&flagSecure == 0 {
				t.Error("the kernel is not told to wipe its copy")
			}
		}
	}
	if _, err := c.Activate("a", Table{line(0, 8, "crypt", "aes "+testKey+" 0 7:1 0")}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, table, err := c.Table(Name("a"), Query{})
	if err != nil || !bytes.Contains(table[0].Params, []byte(testKey)) {
		t.Fatalf("%v, %v", table, err)
	}
	if _, err := c.Message(Name("a"), 0, []byte("key set "+testKey)); err != nil {
		t.Fatal(err)
	}
	if seen != 2 {
		t.Errorf("%d requests had the key", seen)
	}
	for _, b := range f.buffers {
		if bytes.Contains(b, []byte(testKey)) {
			t.Error("a buffer has the key yet")
		}
	}
	table.Wipe()
	if bytes.Contains(table[0].Params, []byte(testKey)) {
		t.Error("the table has the key yet")
	}
}

// Nothing but Reveal shows a key.
func TestLinesHideKeys(t *testing.T) {
	for _, c := range []struct{ target, params, want string }{
		{"crypt", "aes " + testKey + " 0 7:1 0", "aes 00000000000000000000000000000000 0 7:1 0"},
		{"crypt", "aes :32:logon:x 0 7:1 0", "aes :32:logon:x 0 7:1 0"},
		{"crypt", "aes " + testKey, "aes 00000000000000000000000000000000"},
		{"crypt", "aes", "aes"},
		{"integrity", "7:1 0 4 J 2 internal_hash:crc32c journal_mac:hmac(sha256):abcd x", "7:1 0 4 J 2 internal_hash:crc32c journal_mac:hmac(sha256):0000 x"},
		{"integrity", "7:1 0 4 J 1 journal_crypt:ctr(aes):abcd", "7:1 0 4 J 1 journal_crypt:ctr(aes):0000"},
		{"linear", "7:1 " + testKey, "7:1 " + testKey},
	} {
		l := line(0, 8, c.target, c.params)
		want := "0 8 " + c.target + " " + c.want
		j, err := json.Marshal(Table{l})
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []string{l.String(), fmt.Sprint(l), fmt.Sprintf("%#v", l), fmt.Sprintf("%d", l), Table{l}.String(), strings.Trim(string(j), `[]"`)} {
			if got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
		if got := string(l.Reveal()); got != "0 8 "+c.target+" "+c.params {
			t.Errorf("revealed: %s", got)
		}
	}
}

func TestParseTable(t *testing.T) {
	got, err := ParseTable([]byte("# a comment\n\n 0 8 linear 7:1 0 # another\n\t8 8\tzero  \n16 8error x\n"))
	want := Table{line(0, 8, "linear", "7:1 0 "), line(8, 8, "zero", ""), line(16, 8, "error", "x")}
	if err != nil || got.String() != want.String() {
		t.Errorf("%q, %v", got, err)
	}
	for in, where := range map[string]string{"x 8 zero": "line 1 of the table: the first sector", "0 8 zero\n0 zero": "line 2 of the table: the length", "0 8": "line 1 of the table: there is no target",
		"-1 8 zero": "the first sector", "99999999999999999999 8 zero": "the first sector"} {
		_, err := ParseTable([]byte(in))
		var e *SyntaxError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), where) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestMangle(t *testing.T) {
	for in, want := range map[string]string{"a-b.c": "a-b.c", "a b": `a\x20b`, `a\x20b`: `a\x20b`, "ä": `\xc3\xa4`, `a\b`: `a\x5cb`} {
		if got, err := Mangle(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{`a b\x20`, `\x2`, `a\x`} {
		if got, err := Mangle(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := MangleAll(`a\x20 `); got != `a\x5cx20\x20` {
		t.Error(got)
	}
}

func TestParseDev(t *testing.T) {
	if d, err := ParseDev("253:70000"); err != nil || d != (Dev{253, 70000}) || decodeDev(d.encode()) != d {
		t.Errorf("%v, %v", d, err)
	}
	for _, in := range []string{"", "1", "1:", ":1", "a:1", "1:1:1", "4096:1", "1:1048576", "-1:0"} {
		if d, err := ParseDev(in); err == nil {
			t.Errorf("%q: %v", in, d)
		}
	}
}

// Requests are traced without their data.
func TestTrace(t *testing.T) {
	c, _ := newFake(t)
	var lines []string
	c.opts.Trace = func(s string) { lines = append(lines, s) }
	if _, err := c.Activate("a", Table{line(0, 8, "crypt", "aes "+testKey+" 0 7:1 0")}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(lines, "\n")
	if strings.Contains(all, testKey) || !strings.Contains(all, "dm create a ") || !strings.Contains(all, "dm resume a ") {
		t.Error(all)
	}
}

func TestTypedLines(t *testing.T) {
	l := LineOf(0, 8, typed{})
	if l.String() != "0 8 typed a b" {
		t.Error(l)
	}
}

type typed struct{}

func (typed) Type() string                 { return "typed" }
func (typed) AppendParams(b []byte) []byte { return append(b, "a b"...) }

func FuzzParseTable(f *testing.F) {
	f.Add([]byte("0 8 linear 7:1 0\n8 8 crypt aes 00 0 7:1 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ParseTable(b)
		if err != nil {
			return
		}
		data, err := table.encode()
		if err != nil {
			return
		}
		got, err := fakeTable(data, uint32(len(table)))
		if err == unix.EINVAL {
			return
		}
		if err != nil || got.String() != table.String() {
			t.Fatalf("%q became %q, %v", table, got, err)
		}
		if back, err := decodeLines(fakeLines(table), uint32(len(table))); err != nil || back.String() != table.String() {
			t.Fatalf("%q came back as %q, %v", table, back, err)
		}
	})
}

// Whatever the kernel answers, reading it ends, without a fault.
func FuzzAnswers(f *testing.F) {
	f.Add(fakeVersions, uint32(2))
	f.Add(fakeLines(Table{line(0, 8, "linear", "7:1 0")}), uint32(1))
	f.Add((&fake{devices: []*fakeDevice{{name: "a", uuid: "u"}, {name: "b"}}}).list(), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		n %= 1000
		decodeLines(b, n)
		decodeList(b, n%2 == 0)
		decodeVersions(b)
		decodeDeps(b)
	})
}

func FuzzMangle(f *testing.F) {
	f.Add(`a b`)
	f.Add(`a\x20b`)
	f.Fuzz(func(t *testing.T, name string) {
		all := MangleAll(name)
		if got := Unmangle(all); got != name {
			t.Fatalf("%q became %q, and %q", name, all, got)
		}
		m, err := Mangle(name)
		if err != nil {
			return
		}
		if again, err := Mangle(m); err != nil || again != m {
			t.Fatalf("%q became %q, and %q, %v", name, m, again, err)
		}
	})
}

func TestNodeNames(t *testing.T) {
	c, _ := newFake(t)
	for _, name := range []string{"..", "control", "a/b"} {
		if c.nodes.add(name, Dev{7, 0}) == nil || c.nodes.remove(name) == nil {
			t.Errorf("node %q", name)
		}
	}
	if err := os.WriteFile(c.opts.Dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.nodes.add("file", Dev{7, 0}); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
}
