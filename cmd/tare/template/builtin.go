package template

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"text/template"
)

// builtins are the functions of the language. and, or are evaluated by state.
var builtins = Funcs{
	"and": not, "or": not,
	"eq": equal, "ne": unequal, "lt": less, "le": lessOrEqual, "gt": greater, "ge": greaterOrEqual,
	"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	"index": index, "slice": slice, "len": length, "not": not,
	"print": fmt.Sprint, "printf": fmt.Sprintf, "println": fmt.Sprintln,
}

// indirect follows pointers and interfaces to a value, or to the nil on the way.
func indirect(v reflect.Value) (_ reflect.Value, null bool) {
	for ; v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface; v = v.Elem() {
		if v.IsNil() {
			return v, true
		}
	}
	return v, false
}

// inside is what an interface holds.
func inside(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Interface {
		return v.Elem() // of a nil interface: invalid
	}
	return v
}

// isTrue says whether a value counts as true; a struct always does.
func isTrue(v reflect.Value) (truth, ok bool) {
	switch v = inside(v); v.Kind() {
	case reflect.Invalid:
		return false, true
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() > 0, true
	case reflect.Struct:
		return true, true
	}
	return !v.IsZero(), true
}

func not(v reflect.Value) bool {
	truth, _ := isTrue(v)
	return !truth
}

// sortedKeys orders the keys of a map as printing does.
func sortedKeys(m reflect.Value) []reflect.Value {
	keys := m.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int {
		switch a, b = inside(a), inside(b); {
		case a.Kind() != b.Kind():
			return cmp.Compare(a.Kind(), b.Kind())
		case a.CanInt():
			return cmp.Compare(a.Int(), b.Int())
		case a.CanUint():
			return cmp.Compare(a.Uint(), b.Uint())
		case a.CanFloat():
			return cmp.Compare(a.Float(), b.Float())
		case a.Kind() == reflect.String:
			return cmp.Compare(a.String(), b.String())
		}
		return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b))
	})
	return keys
}

// position is an index into something of a length.
func position(i reflect.Value, limit int) (int, error) {
	var n int64
	switch i = inside(i); {
	case i.CanInt():
		n = i.Int()
	case i.CanUint():
		n = int64(i.Uint())
	case !i.IsValid():
		return 0, errors.New("cannot index slice/array with nil")
	default:
		return 0, fmt.Errorf("cannot index slice/array with type %s", i.Type())
	}
	if n < 0 || int(n) < 0 || int(n) > limit {
		return 0, fmt.Errorf("index out of range: %d", n)
	}
	return int(n), nil
}

func index(v reflect.Value, at ...reflect.Value) (reflect.Value, error) {
	if v = inside(v); !v.IsValid() {
		return v, errors.New("index of untyped nil")
	}
	for _, i := range at {
		var null bool
		if v, null = indirect(v); null {
			return v, errors.New("index of nil pointer")
		}
		switch v.Kind() {
		case reflect.Array, reflect.Slice, reflect.String:
			n, err := position(i, v.Len())
			if err != nil {
				return v, err
			}
			v = v.Index(n) // the length itself: the panic is the error
		case reflect.Map:
			key, err := keyOf(inside(i), v.Type().Key())
			if err != nil {
				return v, err
			}
			if elem := v.MapIndex(key); elem.IsValid() {
				v = elem
			} else {
				v = reflect.Zero(v.Type().Elem())
			}
		default:
			return v, fmt.Errorf("can't index item of type %s", v.Type())
		}
	}
	return v, nil
}

// keyOf makes a value the key of a map.
func keyOf(v reflect.Value, t reflect.Type) (reflect.Value, error) {
	switch {
	case !v.IsValid() && !nillable(t):
		return v, fmt.Errorf("value is nil; should be of type %s", t)
	case !v.IsValid():
		return reflect.Zero(t), nil
	case v.Type().AssignableTo(t):
		return v, nil
	case (v.CanInt() || v.CanUint()) && (reflect.Zero(t).CanInt() || reflect.Zero(t).CanUint()):
		return v.Convert(t), nil
	}
	return v, fmt.Errorf("value has type %s; should be %s", v.Type(), t)
}

func slice(v reflect.Value, at ...reflect.Value) (reflect.Value, error) {
	if v = inside(v); !v.IsValid() {
		return v, errors.New("slice of untyped nil")
	}
	v, null := indirect(v)
	limit := 0
	switch k := v.Kind(); {
	case null:
		return v, errors.New("slice of nil pointer")
	case len(at) > 3:
		return v, fmt.Errorf("too many slice indexes: %d", len(at))
	case k == reflect.String && len(at) == 3:
		return v, errors.New("cannot 3-index slice a string")
	case k == reflect.String:
		limit = v.Len()
	case k == reflect.Slice || k == reflect.Array:
		limit = v.Cap()
	default:
		return v, fmt.Errorf("can't slice item of type %s", v.Type())
	}
	bounds := []int{0, v.Len(), limit}
	for i, x := range at {
		n, err := position(x, limit)
		if err != nil {
			return v, err
		}
		bounds[i] = n
	}
	for i := range bounds[:max(2, len(at))-1] {
		if bounds[i] > bounds[i+1] {
			return v, fmt.Errorf("invalid slice index: %d > %d", bounds[i], bounds[i+1])
		}
	}
	if len(at) < 3 {
		return v.Slice(bounds[0], bounds[1]), nil
	}
	return v.Slice3(bounds[0], bounds[1], bounds[2]), nil
}

func length(v reflect.Value) (int, error) {
	v, null := indirect(v)
	if null {
		return 0, errors.New("len of nil pointer")
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len(), nil
	}
	return 0, fmt.Errorf("len of type %s", v.Type()) // of no value: the panic is the error
}
