package format

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/moby/term"
	"github.com/tare-engine/tare/cmd/tare/template"
)

// Column is a column of the default table.
type Column[R any] struct {
	Title string
	Value func(R) string
}

// Fields are what templates and JSON see of a row.
type Fields[R any] struct {
	Type string // what docker calls such a row in error texts
	List []Field[R]
}

// Field is one of them. Its title heads it in "table TEMPLATE"; without one
// that is its name in capitals.
type Field[R any] struct {
	Name, Title string
	Value       func(R) any

	own bool // see Own
}

// Text is a field that is a text.
func Text[R any](name, title string, value func(R) string) Field[R] {
	return Field[R]{Name: name, Title: title, Value: func(r R) any { return value(r) }}
}

// Label is {{.Label "a.b.name"}}: a text for each key, no part of the JSON.
func Label[R any](value func(r R, key string) string) Field[R] {
	return Field[R]{Name: "Label", Value: func(r R) any { return func(key string) string { return value(r, key) } }}
}

// Own is a field that docker does not have: for templates, and no part of the
// JSON, which is as docker's.
func Own[R any](f Field[R]) Field[R] {
	f.own = true
	return f
}

// row is a row as templates see it.
type row[R any] struct {
	fields Fields[R]
	r      R
}

var _ template.Object = row[int]{}

// TemplateType is the row's name in error texts.
func (r row[R]) TemplateType() string { return r.fields.Type }

// TemplateField finds a field by its name.
func (r row[R]) TemplateField(name string) (any, bool) {
	for _, f := range r.fields.List {
		if f.Name == name {
			return f.Value(r.r), true
		}
	}
	return nil, false
}

// MarshalJSON writes the fields by their names.
func (r row[R]) MarshalJSON() ([]byte, error) {
	all := map[string]any{}
	for _, f := range r.fields.List {
		v := f.Value(r.r)
		if _, label := v.(func(string) string); !label && !f.own {
			all[f.Name] = v
		}
	}
	return json.Marshal(all)
}

// heading stands in for a row where the table's heading is made.
type heading map[string]string

// TemplateType is not needed: a heading has every field.
func (heading) TemplateType() string { return "" }

// TemplateField is the title of a field.
func (h heading) TemplateField(name string) (any, bool) {
	if name == "Label" {
		return labelTitle, true
	}
	title, ok := h[name]
	if !ok {
		return nil, true // the row will say so
	}
	return title, true
}

// labelTitle is the heading of {{.Label "a.b.name"}}.
func labelTitle(name string) string {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.NewReplacer("-", " ", "_", " ").Replace(name)
}

// Print writes rows to w as format says: "" and "table" make the default
// table, "table TEMPLATE" one of the caller's, "json" a document a line, any
// other text is a template for each row.
func Print[R any](w io.Writer, format string, columns []Column[R], fields Fields[R], rows []R) error {
	return Collected(w, func(w io.Writer) error {
		switch text := strings.TrimSpace(format); {
		case text == "" || text == "table":
			return printTable(w, columns, rows)
		case text == "json":
			return printJSON(w, fields, rows)
		case strings.HasPrefix(text, "table "):
			return templateError(printTemplateTable(w, strings.TrimPrefix(text, "table "), fields, rows))
		default:
			return templateError(printTemplate(w, format, fields, rows))
		}
	})
}

// Collected calls write with a writer that passes what it gets on to w in few
// pieces. A table is written cell by cell, a list line by line: to a terminal
// or a pipe each would be a system call.
func Collected(w io.Writer, write func(io.Writer) error) error {
	out := bufio.NewWriterSize(w, 32<<10)
	return errors.Join(write(out), out.Flush())
}

func templateError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("template parsing error: %w", err)
}

// Check tries a template on a row, before there are any.
func Check[R any](format string, fields Fields[R], r R) error {
	text := strings.TrimSpace(format)
	if text == "" || text == "table" || text == "json" {
		return nil
	}
	t, err := Parse(text) // a table too: errors count its columns from the word on
	if err != nil {
		return fmt.Errorf("failed to parse template: %w", err)
	}
	if err := Execute(io.Discard, t, row[R]{fields, r}); err != nil {
		return fmt.Errorf("failed to execute template: %w", err)
	}
	return nil
}

// Lines writes one value of each row, a line each.
func Lines[R any](w io.Writer, value func(R) string, rows []R) error {
	return Collected(w, func(w io.Writer) error {
		for _, r := range rows {
			fmt.Fprintln(w, Escape(value(r)))
		}
		return nil
	})
}

// NewTable returns a writer whose tab-separated columns are aligned at Flush.
func NewTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

func printTable[R any](w io.Writer, columns []Column[R], rows []R) error {
	t := NewTable(w)
	line := make([]byte, 0, 256)
	for i, c := range columns {
		if i > 0 {
			line = append(line, '\t')
		}
		line = append(line, c.Title...)
	}
	t.Write(append(line, '\n'))
	for _, r := range rows {
		line = line[:0]
		for i, c := range columns {
			if i > 0 {
				line = append(line, '\t')
			}
			line = append(line, Escape(c.Value(r))...)
		}
		t.Write(append(line, '\n'))
	}
	return t.Flush()
}

func printJSON[R any](w io.Writer, fields Fields[R], rows []R) error {
	for _, r := range rows {
		text, err := json.Marshal(row[R]{fields, r})
		if err != nil {
			return err
		}
		if _, err := w.Write(append(EscapeJSON(text), '\n')); err != nil {
			return err
		}
	}
	return nil
}

func printTemplate[R any](w io.Writer, text string, fields Fields[R], rows []R) error {
	t, err := Parse(text)
	if err != nil {
		return err
	}
	w = Screen(w, text)
	for _, r := range rows {
		if err := Execute(w, t, row[R]{fields, r}); err != nil {
			return err
		}
	}
	return nil
}

func printTemplateTable[R any](w io.Writer, text string, fields Fields[R], rows []R) error {
	t, err := Parse(text)
	if err != nil {
		return err
	}
	table := NewTable(Screen(w, text))
	if err := Execute(table, t.With(titleFuncs()), titlesOf(fields)); err != nil {
		return err
	}
	for _, r := range rows {
		if err := Execute(table, t, row[R]{fields, r}); err != nil {
			return err
		}
	}
	return table.Flush()
}

func titlesOf[R any](fields Fields[R]) heading {
	all := heading{}
	for _, f := range fields.List {
		all[f.Name] = f.Title
		if f.Title == "" {
			all[f.Name] = strings.ToUpper(f.Name)
		}
	}
	return all
}

// Execute runs a template for one object and ends the line.
func Execute(w io.Writer, t *template.Template, data any) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// Screen keeps the values in a template's output from steering a terminal. A
// template that has control characters itself (colours) is let through.
func Screen(w io.Writer, text string) io.Writer {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) || EscapeLines(text) != text {
		return w
	}
	return screen{w}
}

type screen struct{ io.Writer }

func (s screen) Write(p []byte) (int, error) {
	if _, err := io.WriteString(s.Writer, EscapeLines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
