package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/moby/term"
)

// Column is a column of the default table.
type Column[R any] struct {
	Title string
	Value func(R) string
}

// Titles are the headings of fields in "table TEMPLATE". A field without one
// is headed by its name in capitals.
type Titles map[string]string

// Label is the heading of {{.Label "a.b.name"}}.
func (Titles) Label(name string) string {
	name = name[strings.LastIndexByte(name, '.')+1:]
	return strings.NewReplacer("-", " ", "_", " ").Replace(name)
}

// Print writes rows to w as format says: "" and "table" make the default
// table, "table TEMPLATE" one of the caller's, "json" a document a line, any
// other text is a template for each row.
func Print[R any](w io.Writer, format string, columns []Column[R], titles Titles, rows []R) error {
	switch text := strings.TrimSpace(format); {
	case text == "" || text == "table":
		return printTable(w, columns, rows)
	case text == "json":
		return printJSON(w, rows)
	case strings.HasPrefix(text, "table "):
		return printTemplateTable(w, strings.TrimPrefix(text, "table "), titles, rows)
	default:
		return printTemplate(w, format, rows)
	}
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

func printJSON[R any](w io.Writer, rows []R) error {
	for _, r := range rows {
		text, err := json.Marshal(fields(r))
		if err != nil {
			return err
		}
		if _, err := w.Write(append(EscapeJSON(text), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// fields returns what templates see of a row, for JSON.
func fields(row any) any {
	v := reflect.ValueOf(row)
	out := map[string]any{}
	for i := range v.NumMethod() {
		m := v.Type().Method(i)
		if m.Type.NumIn() == 1 && m.Type.NumOut() == 1 { // the receiver alone
			out[m.Name] = v.Method(i).Call(nil)[0].Interface()
		}
	}
	if len(out) == 0 {
		return row
	}
	return out
}

func printTemplate[R any](w io.Writer, text string, rows []R) error {
	t, err := Parse(text)
	if err != nil {
		return err
	}
	w = Screen(w, text)
	for _, r := range rows {
		if err := Execute(w, t, r); err != nil {
			return err
		}
	}
	return nil
}

func printTemplateTable[R any](w io.Writer, text string, titles Titles, rows []R) error {
	t, err := Parse(text)
	if err != nil {
		return err
	}
	table := NewTable(Screen(w, text))
	head := template.Must(t.Clone()).Funcs(titleFuncs())
	if err := Execute(table, head, titlesOf[R](titles)); err != nil {
		return err
	}
	for _, r := range rows {
		if err := Execute(table, t, r); err != nil {
			return err
		}
	}
	return table.Flush()
}

// titlesOf completes the titles with the fields that have none.
func titlesOf[R any](titles Titles) Titles {
	all := Titles{}
	t := reflect.TypeFor[R]()
	for i := range t.NumMethod() {
		name := t.Method(i).Name
		all[name] = strings.ToUpper(name)
	}
	for name, title := range titles {
		all[name] = title
	}
	return all
}

// Execute runs a template for one object and ends the line.
func Execute(w io.Writer, t *template.Template, data any) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("failed to execute template: %w", err)
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
