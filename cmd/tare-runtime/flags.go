package main

import (
	"errors"
	"strconv"
	"strings"
)

// flag is one option of a command. Each has one or two dashes, and a value, if
// it takes one, behind "=" or as the next argument.
type flag struct {
	name, short string
	value       bool // takes one
	usage       string
}

// values are the options of one call, in the order given.
type values map[string][]string

func (v values) has(name string) bool {
	n := len(v[name])
	return n > 0 && v[name][n-1] != "false"
}

func (v values) text(name, otherwise string) string {
	if n := len(v[name]); n > 0 {
		return v[name][n-1]
	}
	return otherwise
}

func (v values) number(name string) (int, error) {
	s := v.text(name, "0")
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("invalid value " + strconv.Quote(s) + " for flag -" + name + ": parse error")
	}
	return n, nil
}

// parse takes the options out of args. With mixed they may stand behind
// arguments too.
func parse(flags []flag, args []string, mixed bool) (rest []string, v values, err error) {
	v = values{}
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		switch {
		case a == "--":
			return append(rest, args...), v, nil
		case len(a) < 2 || a[0] != '-':
			rest = append(rest, a)
			if !mixed {
				return append(rest, args...), v, nil
			}
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(a[1:], "-"), "=")
		f := flagOf(flags, name)
		switch {
		case f == nil:
			return nil, nil, errors.New("flag provided but not defined: -" + name)
		case f.value && !given && len(args) == 0:
			return nil, nil, errors.New("flag needs an argument: -" + name)
		case f.value && !given:
			value, args = args[0], args[1:]
		case !f.value && !given:
			value = "true"
		case !f.value:
			if _, err := strconv.ParseBool(value); err != nil {
				return nil, nil, errors.New("invalid boolean value " + strconv.Quote(value) + " for -" + name + ": parse error")
			}
		}
		v[f.name] = append(v[f.name], value)
	}
	return rest, v, nil
}

func flagOf(flags []flag, name string) *flag {
	for i := range flags {
		if f := &flags[i]; name != "" && (f.name == name || f.short == name) {
			return f
		}
	}
	if name == "help" || name == "h" {
		return &flag{name: "help"}
	}
	return nil
}
