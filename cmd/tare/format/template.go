package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/tare-engine/tare/cmd/tare/template"
)

// Parse makes a template with docker's functions. The two characters \t and
// \n in it are a tab and a line break, as shells make them hard to type. What
// stands before its errors, and before those of Execute, depends on the command.
func Parse(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	return template.Parse(text, funcs())
}

func funcs() template.Funcs {
	return template.Funcs{
		"json":     toJSON,
		"split":    strings.Split,
		"join":     strings.Join,
		"title":    title,
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"pad":      pad,
		"truncate": truncate,
		"println":  fmt.Sprintln,
	}
}

// titleFuncs stand in for funcs in the heading of a table: they leave the
// title of a column as it is.
func titleFuncs() template.Funcs {
	same := func(v string) string { return v }
	return template.Funcs{
		"json": same, "title": same, "lower": same, "upper": same,
		"split":    func(v, _ string) string { return v },
		"join":     func(v, _ string) string { return v },
		"truncate": func(v string, _ int) string { return v },
	}
}

func toJSON(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", err
	}
	return string(EscapeJSON(bytes.TrimSpace(b.Bytes()))), nil
}

func title(s string) string {
	before := ' '
	return strings.Map(func(r rune) rune {
		first := !unicode.IsLetter(before) && !unicode.IsDigit(before) && before != '_' && before != '\''
		before = r
		if first {
			return unicode.ToTitle(r)
		}
		return r
	}, s)
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
}

func truncate(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n])
}
