package template

import (
	"fmt"
	"reflect"
	"text/template/parse"
)

// missing stands for "no value came down the pipeline"; nil is a value.
var missing = reflect.ValueOf(missingType(0))

type missingType int

func isMissing(v reflect.Value) bool {
	return v.IsValid() && v.Type() == reflect.TypeFor[missingType]()
}

// pipeline evaluates a | b | c and declares its variables.
func (s *state) pipeline(dot reflect.Value, p *parse.PipeNode) reflect.Value {
	if p == nil {
		return reflect.Value{}
	}
	s.node = p
	v := missing
	for _, cmd := range p.Cmds {
		v = s.command(dot, cmd, v)
		if v.Kind() == reflect.Interface && v.NumMethod() == 0 {
			v = v.Elem()
		}
	}
	for _, d := range p.Decl {
		s.assign(d.Ident[0], v, p.IsAssign)
	}
	return v
}

// command evaluates one step of a pipeline; last is what came down it.
func (s *state) command(dot reflect.Value, cmd *parse.CommandNode, last reflect.Value) reflect.Value {
	first, args := cmd.Args[0], cmd.Args[1:]
	switch n := first.(type) {
	case *parse.FieldNode, *parse.ChainNode, *parse.VariableNode:
		return s.path(dot, n, args, last)
	case *parse.IdentifierNode:
		s.node = n
		return s.function(dot, cmd, n.Ident, args, last)
	}
	if _, pipe := first.(*parse.PipeNode); !pipe {
		s.node = first
	}
	if len(args) > 0 || !isMissing(last) {
		s.fail("can't give argument to non-function %s", first)
	}
	if _, ok := first.(*parse.NilNode); ok {
		s.fail("nil is not a command")
	}
	return s.operand(dot, first)
}

// operand evaluates a node that stands for a value by itself.
func (s *state) operand(dot reflect.Value, n parse.Node) reflect.Value {
	switch n := n.(type) {
	case *parse.BoolNode:
		return reflect.ValueOf(n.True)
	case *parse.DotNode:
		return dot
	case *parse.StringNode:
		return reflect.ValueOf(n.Text)
	case *parse.NumberNode:
		return s.constant(n)
	case *parse.PipeNode:
		return s.pipeline(dot, n)
	case *parse.IdentifierNode:
		return s.function(dot, n, n.Ident, nil, missing)
	case *parse.FieldNode, *parse.ChainNode, *parse.VariableNode:
		return s.path(dot, n, nil, missing)
	}
	s.fail("can't handle %s", n)
	return reflect.Value{}
}

// path evaluates .A.B, $x.A.B and (pipeline).A.B. Arguments go to the last.
func (s *state) path(dot reflect.Value, n parse.Node, args []parse.Node, last reflect.Value) reflect.Value {
	s.node = n
	at, names := dot, []string(nil)
	switch n := n.(type) {
	case *parse.FieldNode:
		names = n.Ident
	case *parse.VariableNode:
		at, names = s.variable(n.Ident[0]).value, n.Ident[1:]
	case *parse.ChainNode:
		if n.Node.Type() == parse.NodeNil {
			s.fail("indirection through explicit nil in %s", n)
		}
		at, names = s.operand(dot, n.Node), n.Field
	}
	if len(names) == 0 && (len(args) > 0 || !isMissing(last)) {
		s.fail("can't give argument to non-function %s", n)
	}
	for i, name := range names {
		if i < len(names)-1 {
			at = s.field(dot, n, at, name, nil, missing)
		} else {
			at = s.field(dot, n, at, name, args, last)
		}
	}
	return at
}

// field is one step of a path.
func (s *state) field(dot reflect.Value, n parse.Node, at reflect.Value, name string, args []parse.Node, last reflect.Value) reflect.Value {
	s.node = n
	if !at.IsValid() {
		if s.strict {
			s.fail("nil data; no entry for key %q", name)
		}
		return reflect.Value{}
	}
	if o, ok := object(at); ok {
		v, ok := o.TemplateField(name)
		if !ok {
			s.fail("can't evaluate field %s in type %s", name, o.TemplateType())
		}
		value := reflect.ValueOf(v)
		if value.Kind() == reflect.Func {
			return s.apply(dot, n, name, value, args, last)
		}
		s.plain(name, args, last)
		return value
	}
	typ := at.Type()
	in, null := indirect(at)
	switch {
	case in.Kind() == reflect.Interface && null:
		s.fail("nil pointer evaluating %s.%s", typ, name)
	case in.Kind() == reflect.Struct:
		if f, ok := in.Type().FieldByName(name); ok {
			if !f.IsExported() {
				s.fail("%s is an unexported field of struct type %s", name, typ)
			}
			s.plain(name, args, last)
			return s.member(in, f)
		}
	case in.Kind() == reflect.Map && reflect.TypeFor[string]().AssignableTo(in.Type().Key()):
		if len(args) > 0 || !isMissing(last) {
			s.fail("%s is not a method but has arguments", name)
		}
		v := in.MapIndex(reflect.ValueOf(name))
		if !v.IsValid() && s.strict {
			s.fail("map has no entry for key %q", name)
		}
		return v
	case in.Kind() == reflect.Pointer && null:
		elem := in.Type().Elem()
		_, has := reflect.StructField{}, elem.Kind() != reflect.Struct
		if !has {
			_, has = elem.FieldByName(name)
		}
		if has {
			s.fail("nil pointer evaluating %s.%s", typ, name)
		}
	}
	s.fail("can't evaluate field %s in type %s", name, typ)
	return reflect.Value{}
}

// member reads a field of a struct, perhaps of one that is embedded by pointer.
func (s *state) member(in reflect.Value, f reflect.StructField) reflect.Value {
	v, err := in.FieldByIndexErr(f.Index)
	if err != nil {
		s.fail("%w", err)
	}
	return v
}

// plain refuses arguments for what is no function.
func (s *state) plain(name string, args []parse.Node, last reflect.Value) {
	if len(args) > 0 || !isMissing(last) {
		s.fail("%s has arguments but cannot be invoked as function", name)
	}
}

// object returns the Object in a value.
func object(v reflect.Value) (Object, bool) {
	if !v.CanInterface() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, false
	}
	o, ok := v.Interface().(Object)
	return o, ok
}

func (s *state) function(dot reflect.Value, n parse.Node, name string, args []parse.Node, last reflect.Value) reflect.Value {
	f, ok := s.funcs[name]
	if !ok {
		s.fail("%q is not a defined function", name)
	}
	if name == "and" || name == "or" {
		return s.shortCircuit(dot, name, args, last)
	}
	return s.apply(dot, n, name, reflect.ValueOf(f), args, last)
}

// shortCircuit evaluates the arguments of and, or only as far as needed.
func (s *state) shortCircuit(dot reflect.Value, name string, args []parse.Node, last reflect.Value) reflect.Value {
	if len(args) == 0 && isMissing(last) {
		s.fail("wrong number of args for %s: want at least 1 got 0", name)
	}
	var v reflect.Value
	for _, a := range args {
		s.node = a
		v = reflect.Value{}
		if _, null := a.(*parse.NilNode); !null {
			v = s.operand(dot, a)
		}
		if truth, _ := isTrue(v); truth == (name == "or") {
			return v
		}
	}
	if !isMissing(last) {
		return last
	}
	return v
}

// apply calls a function. last, if there is one, is its last argument.
func (s *state) apply(dot reflect.Value, n parse.Node, name string, f reflect.Value, args []parse.Node, last reflect.Value) reflect.Value {
	t := f.Type()
	got, fixed := len(args), t.NumIn()
	if !isMissing(last) {
		got++
	}
	if t.IsVariadic() {
		if fixed--; got < fixed {
			s.fail("wrong number of args for %s: want at least %d got %d", name, fixed, len(args))
		}
	} else if got != fixed {
		s.fail("wrong number of args for %s: want %d got %d", name, fixed, got)
	}
	argv := make([]reflect.Value, got)
	for i := range argv {
		want := t.In(min(i, t.NumIn()-1))
		if i >= fixed {
			want = want.Elem()
		}
		if i < len(args) {
			argv[i] = s.argument(dot, want, args[i])
		} else {
			argv[i] = s.fit(last, want)
		}
	}
	out, err := safely(f, argv)
	if err != nil {
		s.node = n
		s.fail("error calling %s: %w", name, err)
	}
	if v, ok := out.Interface().(reflect.Value); ok && out.Type() == valueType {
		return v
	}
	return out
}

// safely calls a function; its error or panic is an error.
func safely(f reflect.Value, args []reflect.Value) (v reflect.Value, err error) {
	defer func() {
		if r := recover(); r != nil {
			if e, ok := r.(error); ok {
				err = e
			} else {
				err = fmt.Errorf("%v", r)
			}
		}
	}()
	out := f.Call(args)
	if len(out) == 2 && !out[1].IsNil() {
		return out[0], out[1].Interface().(error)
	}
	return out[0], nil
}

var valueType = reflect.TypeFor[reflect.Value]()

// argument evaluates a node as an argument of a type.
func (s *state) argument(dot reflect.Value, want reflect.Type, n parse.Node) reflect.Value {
	s.node = n
	switch n := n.(type) {
	case *parse.NilNode:
		if !nillable(want) {
			s.fail("cannot assign nil to %s", want)
		}
		return reflect.Zero(want)
	case *parse.BoolNode, *parse.StringNode, *parse.NumberNode:
		return s.literal(want, n)
	}
	return s.fit(s.operand(dot, n), want)
}

// literal is a constant as an argument of a type.
func (s *state) literal(want reflect.Type, n parse.Node) reflect.Value {
	expected := ""
	out := reflect.New(want).Elem()
	switch want.Kind() {
	case reflect.Bool:
		b, ok := n.(*parse.BoolNode)
		if ok {
			out.SetBool(b.True)
			return out
		}
		expected = "bool"
	case reflect.String:
		t, ok := n.(*parse.StringNode)
		if ok {
			out.SetString(t.Text)
			return out
		}
		expected = "string"
	case reflect.Int:
		i, ok := n.(*parse.NumberNode)
		if ok && i.IsInt {
			out.SetInt(i.Int64)
			return out
		}
		expected = "integer"
	case reflect.Interface, reflect.Struct:
		return s.fit(s.operand(reflect.Value{}, n), want)
	default:
		s.fail("can't handle %s for arg of type %s", n, want)
	}
	s.fail("expected %s; found %s", expected, n)
	return out
}

// fit makes a value one that may be passed as a type.
func (s *state) fit(v reflect.Value, want reflect.Type) reflect.Value {
	if !v.IsValid() {
		if !nillable(want) {
			s.fail("invalid value; expected %s", want)
		}
		return reflect.Zero(want)
	}
	if want == valueType {
		return reflect.ValueOf(v)
	}
	if v.Type().AssignableTo(want) {
		return v
	}
	if v.Kind() == reflect.Interface && !v.IsNil() {
		if v = v.Elem(); v.Type().AssignableTo(want) {
			return v
		}
	}
	if v.Kind() == reflect.Pointer && v.Type().Elem().AssignableTo(want) {
		if v.IsNil() {
			s.fail("dereference of nil pointer of type %s", want)
		}
		return v.Elem()
	}
	s.fail("wrong type for value; expected %s; got %s", want, v.Type())
	return v
}

// nillable reports whether a parameter of a type takes nil.
func nillable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Interface, reflect.Map, reflect.Pointer, reflect.Slice, reflect.Func, reflect.Chan:
		return true
	}
	return t == valueType
}
