package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/tare-engine/tare/internal/ident"
)

// Tag executes the template that the option tag is; empty, the one given.
func Tag(options map[string]string, otherwise string, s *Subject) (string, error) {
	text := options["tag"]
	if text == "" {
		text = otherwise
	}
	t, err := template.New("log-tag").Funcs(tagFunctions).Parse(text)
	if err == nil {
		err = bounded(t.Root)
	}
	if err != nil {
		return "", invalid("invalid value %q for log option tag: %w", options["tag"], err)
	}
	out := &short{}
	if err := t.Execute(out, tagged{s}); err != nil {
		return "", invalid("invalid value %q for log option tag: %w", options["tag"], err)
	}
	return out.String(), nil
}

// tagFunctions are Docker's.
var tagFunctions = template.FuncMap{
	"json": func(v any) (string, error) {
		b, _ := json.Marshal(v) // of strings, which have a form
		return made(string(b))
	},
	"split": strings.Split, "join": func(list []string, sep string) (string, error) {
		if len(list)*len(sep) > mostMade {
			return "", errTooLong
		}
		return made(strings.Join(list, sep))
	},
	// Templates have these without us, and without a bound.
	"print":    func(a ...any) (string, error) { return made(fmt.Sprint(a...)) },
	"println":  func(a ...any) (string, error) { return made(fmt.Sprintln(a...)) },
	"html":     func(a ...any) (string, error) { return made(template.HTMLEscaper(a...)) },
	"js":       func(a ...any) (string, error) { return made(template.JSEscaper(a...)) },
	"urlquery": func(a ...any) (string, error) { return made(template.URLQueryEscaper(a...)) },
	"printf": func(format string, a ...any) (string, error) {
		if wide.MatchString(format) {
			return "", errTooLong
		}
		return made(fmt.Sprintf(format, a...))
	},
	"lower": strings.ToLower, "upper": strings.ToUpper,
	"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", min(max(before, 0), maxTag)) + s + strings.Repeat(" ", min(max(after, 0), maxTag))
	},
	"truncate": func(s string, n int) string { return s[:min(max(n, 0), len(s))] },
}

// mostMade is how long a text becomes at most on its way to a tag. Each function gets such
// texts, and makes one of a few times that.
const mostMade = 64 << 10

var errTooLong = fmt.Errorf("a text becomes longer than %d bytes", mostMade)

// wide is a width or precision that makes long texts of short ones.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*([0-9]{5}|\*)`)

func made(s string) (string, error) {
	if len(s) > mostMade {
		return "", errTooLong
	}
	return s, nil
}

// bounded refuses what a template could do without end.
func bounded(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		var err error
		switch n := n.(type) {
		case *parse.RangeNode, *parse.TemplateNode:
			err = errors.New("a tag has no range and no template")
		case *parse.IfNode:
			err = errors.Join(bounded(n.List), bounded(n.ElseList))
		case *parse.WithNode:
			err = errors.Join(bounded(n.List), bounded(n.ElseList))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxTag is the longest tag.
const maxTag = 4096

// short is a text that cannot become long.
type short struct{ strings.Builder }

func (s *short) Write(p []byte) (int, error) {
	if s.Len()+len(p) > maxTag {
		return 0, errors.New("the tag is longer than 4096 bytes")
	}
	return s.Builder.Write(p)
}

// tagged is what a template sees of a container.
type tagged struct{ s *Subject }

func (t tagged) ID() string                         { return ident.Short(t.s.ID) }
func (t tagged) FullID() string                     { return t.s.ID }
func (t tagged) Name() string                       { return t.s.Name }
func (t tagged) ImageID() string                    { return t.s.ImageID[:min(12, len(t.s.ImageID))] }
func (t tagged) ImageFullID() string                { return t.s.ImageID }
func (t tagged) ImageName() string                  { return t.s.Image }
func (t tagged) Command() string                    { return strings.Join(t.s.Command, " ") }
func (t tagged) Hostname() string                   { return t.s.Hostname }
func (t tagged) DaemonName() string                 { return t.s.Daemon }
func (t tagged) ContainerID() string                { return t.s.ID }
func (t tagged) ContainerName() string              { return "/" + t.s.Name }
func (t tagged) ContainerImageID() string           { return t.s.ImageID }
func (t tagged) ContainerImageName() string         { return t.s.Image }
func (t tagged) ContainerLabels() map[string]string { return t.s.Labels }
func (t tagged) ContainerEnv() []string             { return t.s.Env }
