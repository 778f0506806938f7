package template

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
)

var (
	errType = errors.New("invalid type for comparison")
	errNone = errors.New("missing argument for comparison")
)

// Kinds that compare with each other: all sizes of integers, of floats.
type family int

const (
	other family = iota
	truth
	signed
	unsigned
	float
	text
	complexNumber
)

func familyOf(v reflect.Value) family {
	switch {
	case v.CanInt():
		return signed
	case v.CanUint():
		return unsigned
	case v.CanFloat():
		return float
	case v.CanComplex():
		return complexNumber
	case v.Kind() == reflect.String:
		return text
	case v.Kind() == reflect.Bool:
		return truth
	}
	return other
}

// equal reports whether a equals any of the others.
func equal(a reflect.Value, others ...reflect.Value) (bool, error) {
	if len(others) == 0 {
		return false, errNone
	}
	a = inside(a)
	for _, b := range others {
		same, err := same(a, inside(b))
		if same || err != nil {
			return same, err
		}
	}
	return false, nil
}

func same(a, b reflect.Value) (bool, error) {
	f, g := familyOf(a), familyOf(b)
	switch {
	case f == other && g == other:
		return sameOther(a, b)
	case f == complexNumber && g == complexNumber:
		return a.Complex() == b.Complex(), nil
	case f == truth && g == truth:
		return a.Bool() == b.Bool(), nil
	case !a.IsValid() || !b.IsValid():
		return false, nil
	}
	order, ok := compare(a, b)
	if !ok {
		return false, incompatible(a, b)
	}
	return order == 0, nil
}

func incompatible(a, b reflect.Value) error {
	return fmt.Errorf("incompatible types for comparison: %v and %v", a.Type(), b.Type())
}

// sameOther compares what is neither a number nor a text: nil with anything,
// else values of one kind that Go can compare.
func sameOther(a, b reflect.Value) (bool, error) {
	switch {
	case a.IsValid() && b.IsValid() && a.Kind() != b.Kind():
		return false, fmt.Errorf("non-comparable types %s: %v, %s: %v", a, a.Type(), b.Type(), b)
	case null(a) || null(b):
		return null(a) == null(b), nil
	case !b.Type().Comparable():
		return false, fmt.Errorf("non-comparable type %s: %v", b, b.Type())
	}
	return a.Interface() == b.Interface(), nil
}

func null(v reflect.Value) bool {
	return !v.IsValid() || nillable(v.Type()) && v.Type() != valueType && v.IsNil()
}

// compare orders numbers of any sign, floats, and texts.
func compare(a, b reflect.Value) (order int, ok bool) {
	switch f, g := familyOf(a), familyOf(b); {
	case f == signed && g == unsigned:
		if a.Int() < 0 {
			return -1, true
		}
		return cmp.Compare(uint64(a.Int()), b.Uint()), true
	case f == unsigned && g == signed:
		order, ok = compare(b, a)
		return -order, ok
	case f != g:
		return 0, false
	case f == signed:
		return cmp.Compare(a.Int(), b.Int()), true
	case f == unsigned:
		return cmp.Compare(a.Uint(), b.Uint()), true
	case f == float:
		return cmp.Compare(a.Float(), b.Float()), true
	case f == text:
		return cmp.Compare(a.String(), b.String()), true
	}
	return 0, false
}

// ordered compares what has an order.
func ordered(a, b reflect.Value) (int, error) {
	a, b = inside(a), inside(b)
	f, g := familyOf(a), familyOf(b)
	if f == other || g == other {
		return 0, errType
	}
	order, ok := compare(a, b)
	switch {
	case ok:
		return order, nil
	case f == g:
		return 0, errType
	}
	return 0, incompatible(a, b)
}

func unequal(a, b reflect.Value) (bool, error) {
	same, err := equal(a, b)
	return !same, err
}

func less(a, b reflect.Value) (bool, error) {
	order, err := ordered(a, b)
	return err == nil && order < 0, err
}

func lessOrEqual(a, b reflect.Value) (bool, error) {
	order, err := ordered(a, b)
	return err == nil && order <= 0, err
}

func greater(a, b reflect.Value) (bool, error) {
	order, err := ordered(a, b)
	return err == nil && order > 0, err
}

func greaterOrEqual(a, b reflect.Value) (bool, error) {
	order, err := ordered(a, b)
	return err == nil && order >= 0, err
}
