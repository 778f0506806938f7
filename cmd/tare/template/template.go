// Package template executes the language of text/template for --format.
//
// It exists for the size of the program: text/template calls methods by name,
// and a linker that sees this keeps every exported method of every type. Without
// it the program is 8.4 MB instead of 9.7. A start gains little: it takes 440 page
// faults instead of 448. This executor stands on the same parser,
// text/template/parse, and shows the same results and errors, but knows fields
// of structs, keys of maps and functions only. Values with computed fields are
// Objects.
//
// Of the language it lacks the functions call, and ranges over channels and
// iterators: no data of ours has any.
package template

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"text/template/parse"
)

// Object is a value that knows its fields itself. A field that takes
// arguments is a function.
type Object interface {
	TemplateField(name string) (value any, ok bool)
	TemplateType() string // its name in error texts
}

// Funcs are functions by name: they return a value, or a value and an error.
type Funcs map[string]any

// Template is a parsed text. It is not changed by being executed.
type Template struct {
	trees  map[string]*parse.Tree
	root   *parse.Tree
	funcs  Funcs
	strict bool
}

// Parse reads a template that may call funcs beside the language's own.
func Parse(text string, funcs Funcs) (*Template, error) {
	all := maps.Clone(builtins)
	maps.Copy(all, funcs)
	trees := map[string]*parse.Tree{}
	root := parse.New("")
	if _, err := root.Parse(text, "", "", trees, all); err != nil {
		return nil, err
	}
	return &Template{trees: trees, root: root, funcs: all}, nil
}

// With returns the same template with other functions of the same names.
func (t *Template) With(funcs Funcs) *Template {
	out := *t
	out.funcs = maps.Clone(t.funcs)
	maps.Copy(out.funcs, funcs)
	return &out
}

// Strict returns the same template, for which a key that a map does not have
// is an error; else it is "<no value>".
func (t *Template) Strict() *Template {
	out := *t
	out.strict = true
	return &out
}

// Execute writes the template's output for data.
func (t *Template) Execute(w io.Writer, data any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = e.error
		}
	}()
	var out bytes.Buffer
	dot := reflect.ValueOf(data)
	s := &state{Template: t, tree: t.root, out: &out, vars: []variable{{"$", dot}}}
	if t.root.Root == nil {
		s.fail("incomplete or empty template")
	}
	s.list(dot, t.root.Root)
	_, err = w.Write(out.Bytes())
	return err
}

// failure is how an error leaves the depth of an execution.
type failure struct{ error }

// state is one execution of one tree.
type state struct {
	*Template
	tree  *parse.Tree
	node  parse.Node // for error texts
	out   *bytes.Buffer
	vars  []variable
	depth int
}

type variable struct {
	name  string
	value reflect.Value
}

// maxDepth bounds templates that call themselves.
const maxDepth = 100000

// fail ends the execution.
func (s *state) fail(format string, args ...any) {
	if s.node == nil {
		panic(failure{fmt.Errorf("template: %s: %w", s.tree.Name, fmt.Errorf(format, args...))})
	}
	place, context := s.tree.ErrorContext(s.node)
	panic(failure{fmt.Errorf("template: %s: executing %q at <%s>: %w", place, s.tree.Name, context, fmt.Errorf(format, args...))})
}

// flow says how a list of nodes ended.
type flow int

const (
	goOn flow = iota
	breakLoop
	nextTurn
)

func (s *state) list(dot reflect.Value, l *parse.ListNode) flow {
	if l == nil {
		return goOn
	}
	for _, n := range l.Nodes {
		if f := s.walk(dot, n); f != goOn {
			return f
		}
	}
	return goOn
}

func (s *state) walk(dot reflect.Value, n parse.Node) flow {
	s.node = n
	switch n := n.(type) {
	case *parse.ActionNode:
		v := s.pipeline(dot, n.Pipe)
		if len(n.Pipe.Decl) == 0 {
			s.print(n, v)
		}
	case *parse.TextNode:
		s.out.Write(n.Text)
	case *parse.IfNode:
		return s.branch(dot, &n.BranchNode, false)
	case *parse.WithNode:
		return s.branch(dot, &n.BranchNode, true)
	case *parse.RangeNode:
		defer s.scope()()
		return s.loop(dot, n)
	case *parse.TemplateNode:
		s.call(dot, n)
	case *parse.BreakNode:
		return breakLoop
	case *parse.ContinueNode:
		return nextTurn
	}
	return goOn
}

// scope returns what forgets the variables declared from now on.
func (s *state) scope() (end func()) {
	n := len(s.vars)
	return func() { s.vars = s.vars[:n] }
}

// branch is if, or with, which moves the dot.
func (s *state) branch(dot reflect.Value, n *parse.BranchNode, moves bool) flow {
	defer s.scope()()
	v := s.pipeline(dot, n.Pipe)
	truth, ok := isTrue(v)
	if !ok {
		s.fail("if/with can't use %v", v)
	}
	if !truth {
		return s.list(dot, n.ElseList)
	}
	if moves {
		dot = v
	}
	return s.list(dot, n.List)
}

func (s *state) loop(dot reflect.Value, n *parse.RangeNode) flow {
	v, _ := indirect(s.pipeline(dot, n.Pipe))
	turns := 0
	turn := func(key, elem reflect.Value) bool {
		turns++
		defer s.scope()()
		s.bind(n.Pipe, key, elem)
		return s.list(elem, n.List) != breakLoop
	}
	s.each(n, v, turn)
	if turns == 0 {
		return s.list(dot, n.ElseList)
	}
	return goOn
}

// each calls turn for what a value has, until it returns false.
func (s *state) each(n *parse.RangeNode, v reflect.Value, turn func(key, elem reflect.Value) bool) {
	switch v.Kind() {
	case reflect.Invalid:
	case reflect.Array, reflect.Slice:
		for i := range v.Len() {
			if !turn(reflect.ValueOf(i), v.Index(i)) {
				return
			}
		}
	case reflect.Map:
		for _, k := range sortedKeys(v) {
			if !turn(k, v.MapIndex(k)) {
				return
			}
		}
	default:
		if !v.CanInt() && !v.CanUint() {
			s.fail("range can't iterate over %v", v)
		}
		if len(n.Pipe.Decl) > 1 {
			s.fail("can't use %v to iterate over more than one variable", v)
		}
		for i := range v.Seq() {
			if !turn(reflect.Value{}, i) {
				return
			}
		}
	}
}

// bind sets the variables of a range: element, or key and element.
func (s *state) bind(p *parse.PipeNode, key, elem reflect.Value) {
	values := []reflect.Value{elem}
	if len(p.Decl) > 1 {
		values = []reflect.Value{key, elem}
	}
	for i, d := range p.Decl {
		s.assign(d.Ident[0], values[i], p.IsAssign)
	}
}

// assign declares a variable, or changes the newest one of that name.
func (s *state) assign(name string, v reflect.Value, existing bool) {
	if !existing {
		s.vars = append(s.vars, variable{name, v})
		return
	}
	s.variable(name).value = v
}

func (s *state) variable(name string) *variable {
	for i := len(s.vars) - 1; i >= 0; i-- {
		if s.vars[i].name == name {
			return &s.vars[i]
		}
	}
	s.fail("undefined variable: %s", name)
	return nil
}

// call is {{template "name" pipeline}}.
func (s *state) call(dot reflect.Value, n *parse.TemplateNode) {
	tree := s.trees[n.Name]
	if tree == nil {
		s.fail("template %q not defined", n.Name)
	}
	if s.depth == maxDepth {
		s.fail("exceeded maximum template depth (%v)", maxDepth)
	}
	dot = s.pipeline(dot, n.Pipe)
	sub := &state{Template: s.Template, tree: tree, out: s.out, vars: []variable{{"$", dot}}, depth: s.depth + 1}
	sub.list(dot, tree.Root)
}

func (s *state) print(n parse.Node, v reflect.Value) {
	s.node = n
	x, ok := printable(v)
	if !ok {
		s.fail("can't print %s of type %s", n, v.Type())
	}
	fmt.Fprint(s.out, x)
}

// printable is a value as fmt should see it.
func printable(v reflect.Value) (any, bool) {
	if v.Kind() == reflect.Pointer {
		v, _ = indirect(v)
	}
	if !v.IsValid() {
		return "<no value>", true
	}
	if !says(v.Type()) && v.CanAddr() && says(reflect.PointerTo(v.Type())) {
		v = v.Addr()
	}
	if k := v.Kind(); !says(v.Type()) && (k == reflect.Chan || k == reflect.Func) {
		return nil, false
	}
	return v.Interface(), true
}

// says reports whether values of a type have a text of their own.
func says(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[error]()) || t.Implements(reflect.TypeFor[fmt.Stringer]())
}

// constant is a number where nothing says of what type: its spelling does.
func (s *state) constant(n *parse.NumberNode) reflect.Value {
	s.node = n
	hex := len(n.Text) > 2 && n.Text[0] == '0' && (n.Text[1]|' ') == 'x' && !strings.ContainsAny(n.Text, "pP")
	switch {
	case n.IsComplex:
		return reflect.ValueOf(n.Complex128)
	case n.IsFloat && !hex && n.Text[0] != '\'' && strings.ContainsAny(n.Text, ".eEpP"):
		return reflect.ValueOf(n.Float64)
	case n.IsInt && int64(int(n.Int64)) == n.Int64:
		return reflect.ValueOf(int(n.Int64))
	}
	s.fail("%s overflows int", n.Text)
	return reflect.Value{}
}
