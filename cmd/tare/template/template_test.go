package template

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"text/template"
	"time"
)

type inner struct {
	N     int
	S     string
	Label map[string]string
}

type outer struct {
	*inner
	Nil      *inner
	In       inner
	Ptr      *inner
	List     []string
	Empty    []string
	Any      any
	NilAny   any
	Map      map[string]any
	Ints     map[int]string
	U        uint8
	F        float64
	B        bool
	Duration time.Duration
	When     *time.Time
	Number   [3]int
	secret   string
}

func data() outer {
	in := inner{7, "seven", map[string]string{"a.b": "c", "x": "y"}}
	return outer{
		inner: &in, In: in, Ptr: &in, List: []string{"b", "a", "c"}, Any: &in,
		Map:  map[string]any{"k": "v", "n": 1, "l": []any{"p", 2}, "nil": nil, "sub": map[string]any{"z": "<&>"}},
		Ints: map[int]string{2: "two", 1: "one", -3: "three"}, U: 200, F: 1.5, B: true,
		Duration: 90 * time.Second, Number: [3]int{4, 5, 6}, secret: "x",
	}
}

var funcs = Funcs{
	"join":  strings.Join,
	"upper": strings.ToUpper,
	"trunc": func(s string, n int) string { return s[:n] },
	"flag":  func(b bool) string { return fmt.Sprint(b) },
	"fails": func() (string, error) { return "", io.ErrUnexpectedEOF },
	"panic": func(v any) string { panic("ouch") },
	"show":  func(v any) string { return fmt.Sprintf("%v", v) },
}

// texts are run by text/template and by us: output and error are the same.
var texts = []string{
	"", "plain", "{{.}}", "{{.N}} {{.S}} {{.In.S}} {{.Ptr.N}}", "{{.Nope}}", "{{.In.Nope}}", "{{.secret}}", "{{.Nil}}", "{{.Nil.N}}", "{{.Nil.Nope}}",
	"{{.Any.S}}", "{{.NilAny}}", "{{.NilAny.S}}", "{{.Map.k}} {{.Map.nope}} {{.Map.nil}} {{.Map.sub.z}}", "{{.Map.nope.deeper}}", "{{.Map.k.x}}", "{{.Ints.x}}", "{{.S.x}}",
	"{{.Duration}} {{.When}}", "{{.List}} {{.Map}} {{.Number}}", "{{printf `%05.1f|%s|%v` .F .S .List}}", "{{print 1 2 `x` .S}}", "{{println .S}}",
	"{{if .B}}yes{{else}}no{{end}}", "{{if .Empty}}yes{{else if .N}}seven{{else}}no{{end}}", "{{if .Nil}}a{{else}}b{{end}}", "{{if .In}}struct{{end}}", "{{if .NilAny}}a{{else}}b{{end}}", "{{if .F}}f{{end}}",
	"{{with .In}}{{.S}}{{end}}", "{{with $x := .Ptr}}{{$x.N}}{{end}}", "{{with .Empty}}a{{else}}{{.S}}{{end}}", "{{with .Nope}}{{end}}", "{{with .Empty}}a{{else with .List}}{{.}}{{end}}",
	"{{range .List}}{{.}},{{end}}", "{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "{{range $e := .List}}{{$e}}{{end}}", "{{range .Empty}}x{{else}}none{{end}}", "{{range $k, $v := .Map}}{{$k}}:{{$v}};{{end}}",
	"{{range $k, $v := .Ints}}{{$k}}:{{$v}};{{end}}", "{{range .S}}{{.}}{{end}}", "{{range 3}}{{.}}{{end}}", "{{range $i := 3}}{{$i}}{{end}}", "{{range $i, $j := 3}}{{$i}}{{end}}", "{{range .U}}{{break}}{{end}}",
	"{{range .List}}{{if eq . `a`}}{{continue}}{{end}}{{.}}{{end}}", "{{range .List}}{{if eq . `a`}}{{break}}{{end}}{{.}}{{end}}", "{{range .Nil}}x{{else}}none{{end}}", "{{range .F}}{{end}}",
	"{{$x := 1}}{{range .List}}{{$x = .}}{{end}}{{$x}}", "{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "{{$x := .In}}{{$x.S}}{{$.N}}", "{{$i := 0}}{{$e := ``}}{{range $i, $e = .List}}{{end}}{{$i}}{{$e}}",
	"{{.S | upper | printf `%q`}}", "{{join .List `-`}}", "{{`-` | join .List}}", "{{upper .N}}", "{{upper}}", "{{upper 1}}", "{{upper .S .S}}", "{{trunc .S 3}}", "{{trunc .S `x`}}", "{{trunc .S .N}}", "{{trunc .S 1.0}}", "{{trunc .S 100}}", "{{flag true}}{{flag 1}}",
	"{{join nil `x`}}", "{{upper nil}}", "{{upper .NilAny}}", "{{upper .Map.k}}", "{{upper .Map.n}}", "{{upper .Map.nope}}", "{{show nil}}", "{{show .Map.nope}}", "{{show 1}}{{show 0x1F}}{{show 'a'}}{{show 1e3}}{{show 1.0}}{{show 2i}}{{show true}}", "{{show 18446744073709551615}}",
	"{{fails}}", "{{panic 1}}", "{{fails | upper}}", "{{nosuch}}", "{{.S", "{{if}}", "{{end}}", "{{nil}}", "{{1 2}}", "{{.S | 1}}", "{{.S .N}}", "{{.N | .S}}", "{{(.In).S}}", "{{(index .List 0) | upper}}", "{{(.In.Nope).S}}", "{{nil.S}}", "{{$.Nope}}", "{{$x}}", "{{.S.}}",
	"{{eq .N 7}} {{eq .N 7 8}} {{eq .N 1 7}} {{eq .S `seven`}} {{eq .U .N}} {{eq .N .U}} {{eq .F 1.5}} {{eq .B true}} {{eq .NilAny nil}} {{eq .Nil nil}}", "{{eq .N}}", "{{eq .N `x`}}", "{{eq .List .List}}", "{{eq .Number .Number}}", "{{eq .Map.nope .Map.nil}}", "{{eq .Map.nope 1}}", "{{eq .In .In}}", "{{eq .Ptr .Ptr}} {{eq .Map nil}}", "{{eq .List .Map}}", "{{eq 1 1.0}}", "{{eq 2i 2i}}",
	"{{ne .N 7}} {{ne .S `x`}}", "{{ne .N `x`}}", "{{ne 1}}", "{{lt 1 2}} {{lt 2 1}} {{lt .U 300}} {{lt -1 .U}} {{le 2 2}} {{gt .F 1.0}} {{ge `b` `a`}} {{lt `a` `b`}}", "{{lt true false}}", "{{lt 1 `a`}}", "{{lt .List .List}}", "{{gt nil 1}}", "{{le .Map.n 1}}", "{{lt .NilAny 1}}", "{{ge 2i 1i}}",
	"{{and 1 0 .Nope}}", "{{and .B .S}}", "{{and .S 0 }}", "{{or 0 `` .S}}", "{{or .B .Nope}}", "{{.S | and .B}}", "{{.S | or .Empty}}", "{{and}}", "{{or .Empty nil}}", "{{not .B}} {{not .Empty}} {{not nil}}", "{{not}}",
	"{{len .List}} {{len .S}} {{len .Map}} {{len .Number}}", "{{len .N}}", "{{len .Nil}}", "{{len nil}}", "{{len .In}}", "{{index .List 1}} {{index .Map `l` 1}} {{index .Ints 2}} {{index .Label `a.b`}} {{index .Number 2}} {{index .S 0}}", "{{index .List 9}}", "{{index .List 3}}", "{{index .List -1}}", "{{index .List `x`}}", "{{index .List nil}}", "{{index .Map 1}}", "{{index .Map nil}}", "{{index .Map `nope`}}", "{{index .N 1}}", "{{index nil 1}}", "{{index .Nil 1}}", "{{index .List}}", "{{index .Ints .U}}", "{{index .Map `nope` `x`}}", "{{index .List .U}}",
	"{{slice .S 1 3}} {{slice .List 1}} {{slice .List}} {{slice .List 0 1 2}}", "{{slice .S 3 1}}", "{{slice .S 0 1 2}}", "{{slice .S 0 99}}", "{{slice .List 0 1 2 3}}", "{{slice .List 2 1 3}}", "{{slice .List 0 3 2}}", "{{slice .N 1}}", "{{slice nil 1}}", "{{slice .Nil}}",
	"{{html .Map.sub.z}} {{js `'\"<`}} {{urlquery `a b&c`}}", "{{/* comment */}}x{{- ` y ` -}} z", "{{define `t`}}[{{.}}]{{end}}{{template `t` .S}}{{template `t`}}", "{{define `t`}}{{.Nope}}{{end}}{{template `t` .}}", "{{template `nosuch`}}", "{{block `b` .S}}<{{.}}>{{end}}", "{{define `t`}}{{$.N}}{{end}}{{$x := 1}}{{template `t` .}}",
	"{{with $y := 3}}{{$y}}{{end}}{{$y}}", "{{true}} {{false}} {{`raw`}} {{\"q\\n\"}} {{1}} {{1.5}} {{'a'}} {{.}}{{$}}", "a{{break}}", "{{range .List}}{{template `t` .}}{{end}}{{define `t`}}{{.}}!{{end}}",
}

func TestEqualsTextTemplate(t *testing.T) {
	for _, strict := range []bool{false, true} {
		option := "missingkey=default"
		if strict {
			option = "missingkey=error"
		}
		for name, data := range map[string]any{"struct": data(), "pointer": new(data()), "nil": nil, "map": map[string]any{"S": "s", "N": 1}, "strings": map[string]string{"S": "s"}} {
			for _, text := range texts {
				want, wantErr := theirs(text, option, data)
				got, gotErr := ours(text, strict, data)
				if fmt.Sprint(wantErr) != fmt.Sprint(gotErr) || wantErr == nil && want != got {
					t.Errorf("%s, %s, %s:\n got %q, %v\nwant %q, %v", text, name, option, got, gotErr, want, wantErr)
				}
			}
		}
	}
}

func theirs(text, option string, data any) (string, error) {
	t, err := template.New("").Funcs(template.FuncMap(funcs)).Option(option).Parse(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, data)
	return b.String(), err
}

func ours(text string, strict bool, data any) (string, error) {
	t, err := Parse(text, funcs)
	if err != nil {
		return "", err
	}
	if strict {
		t = t.Strict()
	}
	var b strings.Builder
	err = t.Execute(&b, data)
	return b.String(), err
}

func TestDepth(t *testing.T) {
	_, err := ours("{{define `r`}}{{template `r`}}{{end}}{{template `r`}}", false, nil)
	if err == nil || !strings.HasSuffix(err.Error(), "exceeded maximum template depth (100000)") {
		t.Errorf("a template that calls itself: %v", err)
	}
}

type computed struct{}

func (computed) TemplateType() string { return "*some.Row" }

func (computed) TemplateField(name string) (any, bool) {
	switch name {
	case "Name":
		return "rex", true
	case "Label":
		return func(k string) string { return k + "!" }, true
	}
	return nil, false
}

func TestObject(t *testing.T) {
	for text, want := range map[string]string{
		"{{.Name}} {{.Name | upper}} {{$.Name}}": "rex REX rex",
		"{{.Label `a`}} {{`b` | .Label}}":        "a! b!",
		"{{.Nope}}":                              `template: :1:2: executing "" at <.Nope>: can't evaluate field Nope in type *some.Row`,
		"{{.Name 1}}":                            `template: :1:2: executing "" at <.Name>: Name has arguments but cannot be invoked as function`,
		"{{.Label}}":                             `template: :1:2: executing "" at <.Label>: wrong number of args for Label: want 1 got 0`,
	} {
		got, err := ours(text, false, computed{})
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
}
