package main

import (
	"regexp"
	"strconv"
	"strings"
)

// selection is an expression of --select:
//
//	name=~^vol && (open>0 || !(suspended=Active))
type selection struct {
	not  bool
	all  bool // of the parts, or one of them
	part []*selection
	test *test // instead of parts
}

// test is a comparison of a field.
type test struct {
	column  *column
	op      string
	text    string
	number  uint64
	pattern *regexp.Regexp
}

func (s *selection) matches(r *report, w *row) bool {
	is := s.all
	switch {
	case s.test != nil:
		for i, c := range r.columns {
			if c == s.test.column {
				is = s.test.matches(w.cells[i])
			}
		}
	default:
		for _, p := range s.part {
			if is = p.matches(r, w); is != s.all {
				break
			}
		}
	}
	return is != s.not
}

func (t *test) matches(cell string) bool {
	if t.pattern != nil {
		return t.pattern.MatchString(cell) == (t.op == "=~")
	}
	if !t.column.number {
		return (cell == t.text) == (t.op == "=")
	}
	n := unsigned(cell)
	switch t.op {
	case "=":
		return n == t.number
	case "!=":
		return n != t.number
	case ">=":
		return n >= t.number
	case ">":
		return n > t.number
	case "<=":
		return n <= t.number
	}
	return n < t.number
}

// selectRows reads --select.
func (r *report) selectRows(a *app) bool {
	switch text := a.selection; {
	case text == "" || strings.EqualFold(text, "all"):
		return true
	case strings.EqualFold(text, "help") || text == "?":
		a.displayFields(false, true)
		a.errorf(" ")
		a.selectionHelp()
		r.helped = true
		return true
	default:
		p := &parser{a: a, r: r, rest: text}
		r.selection = p.any()
		if r.selection == nil {
			return false
		}
		if p.space(); p.rest != "" {
			a.errorf("Expecting logical operator")
			p.wrong(p.rest)
			return false
		}
		return true
	}
}

// parser reads a selection from left to right. Its methods return nil after they have
// printed what is wrong.
type parser struct {
	a    *app
	r    *report
	rest string
}

const blanks = " \t\n\v\f\r"

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, blanks) }

func (p *parser) take(tokens ...string) bool {
	p.space()
	for _, t := range tokens {
		if rest, ok := strings.CutPrefix(p.rest, t); ok {
			p.rest = rest
			return true
		}
	}
	return false
}

func (p *parser) wrong(at string) *selection {
	p.a.errorf("Selection syntax error at '%s'.", at)
	p.a.errorf("Use 'help' for selection to get more help.")
	return nil
}

func (p *parser) series(all bool, next func() *selection, tokens ...string) *selection {
	s := &selection{all: all}
	for {
		part := next()
		if part == nil {
			return nil
		}
		s.part = append(s.part, part)
		if !p.take(tokens...) {
			return s
		}
	}
}

func (p *parser) any() *selection   { return p.series(false, p.every, "||", "#") }
func (p *parser) every() *selection { return p.series(true, p.one, "&&", ",") }

func (p *parser) one() *selection {
	switch {
	case p.take("!"):
		if !p.take("(") {
			p.a.errorf("Syntax error: left parenthesis expected at '%s'", p.rest)
			return nil
		}
		s := p.group()
		if s != nil {
			s.not = true
		}
		return s
	case p.take("("):
		return p.group()
	}
	return p.test()
}

func (p *parser) group() *selection {
	s := p.any()
	if s != nil && !p.take(")") {
		p.a.errorf("Syntax error: right parenthesis expected at '%s'", p.rest)
		return nil
	}
	return s
}

// operators are in an order in which a longer one comes before its beginning.
var operators = []string{"=~", "!~", "=", "!=", ">=", ">", "<=", "<", "since", "after", "until", "before"}

func (p *parser) test() *selection {
	a := p.a
	p.space()
	begin := p.rest
	end := 0
	for end < len(begin) && (begin[end] == '_' || begin[end] == '-' || '0' <= begin[end] && begin[end] <= '9' || 'a' <= begin[end]|0x20 && begin[end]|0x20 <= 'z') {
		end++
	}
	if end == 0 {
		a.errorf("Expecting field name")
		return p.wrong(begin)
	}
	name := begin[:end]
	f := p.r.match(name)
	if f == nil || f.text == nil {
		a.displayFields(false, true)
		a.errorf(" ")
		if f == nil {
			a.errorf("Unrecognised selection field: %s", name)
		} else {
			a.errorf("Selection field is uncomparable: %s.", name)
		}
		return p.wrong(begin)
	}
	p.rest = begin[end:]
	t := &test{}
	for _, op := range operators {
		if p.take(op) {
			t.op = op
			break
		}
	}
	switch {
	case t.op == "":
		a.selectionHelp()
		a.errorf("Unrecognised comparison operator: %s", begin[end:])
		return p.wrong(begin)
	case t.op[0] >= 'a':
		a.selectionHelp()
		a.errorf("Operator can be used only with time fields: %s", begin)
		return p.wrong(begin)
	case t.op[0] == '<' || t.op[0] == '>':
		if !f.number {
			a.selectionHelp()
			a.errorf("Operator can be used only with number, size, time or percent fields: %s", begin)
			return p.wrong(begin)
		}
	}
	if !p.value(t, f) {
		return p.wrong(begin)
	}
	p.space()
	t.column = p.r.column(*f)
	return &selection{test: t}
}

func (p *parser) value(t *test, f *field) bool {
	a := p.a
	p.space()
	switch {
	case strings.HasSuffix(t.op, "~"):
		if p.rest == "" {
			a.errorf("Regular expression expected for selection field %s", f.id)
			return false
		}
		text, ok := p.word(`"'({[`, `"')}]`)
		if !ok {
			a.errorf("Failed to parse regex value for selection field %s.", f.id)
			return false
		}
		if f.number {
			a.errorf("dm_report: incompatible comparison type for selection field %s", f.id)
			return false
		}
		var err error
		if t.pattern, err = regexp.Compile(text); err != nil {
			a.errorf("dm_report: failed to create regex matcher for selection field %s", f.id)
			return false
		}
	case f.number:
		end := 0
		for end < len(p.rest) && '0' <= p.rest[end] && p.rest[end] <= '9' {
			end++
		}
		n, err := strconv.ParseUint(p.rest[:end], 10, 64)
		if err != nil {
			a.errorf("Failed to parse numeric value for selection field %s.", f.id)
			return false
		}
		t.number, p.rest = n, p.rest[end:]
	default:
		text, ok := p.word(`"'`, `"'`)
		if !ok {
			a.errorf("Failed to parse string value for selection field %s.", f.id)
			return false
		}
		t.text = text
	}
	return true
}

// word is quoted by a pair of characters, or ends before an operator or a space.
func (p *parser) word(open, closed string) (string, bool) {
	if p.rest != "" {
		if i := strings.IndexByte(open, p.rest[0]); i >= 0 {
			text, rest, ok := strings.Cut(p.rest[1:], closed[i:i+1])
			if !ok {
				p.a.errorf("Missing end quote.")
				return "", false
			}
			p.rest = rest
			return text, true
		}
	}
	for i := range len(p.rest) {
		after := strings.TrimLeft(p.rest[i:], blanks)
		for _, op := range []string{"&&", ",", "||", "#", ")"} {
			if strings.HasPrefix(after, op) {
				text := p.rest[:i]
				p.rest = p.rest[i:]
				return text, true
			}
		}
		if p.rest[i] == ' ' {
			text := p.rest[:i]
			p.rest = p.rest[i:]
			return text, true
		}
	}
	text := p.rest
	p.rest = ""
	return text, true
}

func (a *app) selectionHelp() {
	a.errorf("%s", strings.TrimSuffix(selectionText, "\n"))
}

const selectionText = `Selection operands
------------------
  field               - Reporting field.
  number              - Non-negative integer value.
  string              - Characters quoted by ' or " or unquoted.
  regular expression  - Characters quoted by ' or " or unquoted.

Selection operators
-------------------
  Comparison operators:
        =~  - Matching regular expression. [regex]
        !~  - Not matching regular expression. [regex]
         =  - Equal to. [number, string]
        !=  - Not equal to. [number, string]
        >=  - Greater than or equal to. [number]
         >  - Greater than. [number]
        <=  - Less than or equal to. [number]
         <  - Less than. [number]

  Logical and grouping operators:
      &&  - All fields must match
       ,  - All fields must match
      ||  - At least one field must match
       #  - At least one field must match
       !  - Logical negation
       (  - Left parenthesis
       )  - Right parenthesis
`
