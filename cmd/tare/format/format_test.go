package format

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestEscape(t *testing.T) {
	for in, want := range map[string]string{
		"plain":         "plain",
		"ümläut…":       "ümläut…",
		"\x1b[31mred":   `\x1b[31mred`,
		"a\nb\tc":       `a\x0ab\x09c`,
		"\u009b31m\x7f": `\x9b31m\x7f`,
		"\xff\x80":      `\xff\x80`,
	} {
		if got := Escape(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := EscapeLines("a\n\tb\x1b\r"); got != "a\n\tb\\x1b\\x0d" {
		t.Errorf("EscapeLines: %q", got)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a\x1b[2J\u009b\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Escape(s) {
			if control(r) {
				t.Fatalf("%q leaves %q", s, r)
			}
		}
		text, _ := json.Marshal(s)
		escaped := EscapeJSON(text)
		var a, b string
		if json.Unmarshal(text, &a) != nil || json.Unmarshal(escaped, &b) != nil || a != b {
			t.Fatalf("%q becomes %q", a, b)
		}
		for _, r := range string(escaped) {
			if control(r) {
				t.Fatalf("%q leaves %q", s, r)
			}
		}
	})
}

type pet struct{ name, kind string }

func (p pet) Name() string          { return p.name }
func (p pet) Kind() string          { return p.kind }
func (p pet) Label(k string) string { return k + "!" }

func TestPrint(t *testing.T) {
	rows := []pet{{"rex", "dog"}, {"ti\x1bger", "<cat>"}}
	columns := []Column[pet]{{"NAME", pet.Name}, {"KIND OF PET", pet.Kind}}
	fields := Fields[pet]{"*main.Pet", []Field[pet]{Text("Name", "", pet.Name), Text("Kind", "KIND OF PET", pet.Kind), Label(pet.Label)}}
	for format, want := range map[string]string{
		"":                                      "NAME        KIND OF PET\nrex         dog\nti\\x1bger   <cat>\n",
		"table":                                 "NAME        KIND OF PET\nrex         dog\nti\\x1bger   <cat>\n",
		"json":                                  `{"Kind":"dog","Name":"rex"}` + "\n" + `{"Kind":"\u003ccat\u003e","Name":"ti\u001bger"}` + "\n",
		"{{.Name | upper}}":                     "REX\nTI\x1bGER\n",
		`table {{.Kind}}\t{{.Label "a.b-c"}}`:   "KIND OF PET   b c\ndog           a.b-c!\n<cat>         a.b-c!\n",
		`{{json .Kind}}`:                        "\"dog\"\n\"<cat>\"\n",
		`{{truncate .Name 2}}{{pad .Kind 1 1}}`: "re dog \nti <cat> \n",
	} {
		var b strings.Builder
		if err := Print(&b, format, columns, fields, rows); err != nil {
			t.Errorf("%s: %v", format, err)
		} else if b.String() != want {
			t.Errorf("%s:\n got %q\nwant %q", format, b.String(), want)
		}
	}
	for _, format := range []string{"{{.Nope}}", "table {{.Nope}}"} {
		err := Print(&strings.Builder{}, format, columns, fields, rows)
		if err == nil || !strings.HasSuffix(err.Error(), "can't evaluate field Nope in type *main.Pet") {
			t.Errorf("%s: a field that is not there: %v", format, err)
		}
	}
}
