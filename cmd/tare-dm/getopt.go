package main

import (
	"fmt"
	"strings"
)

// option is one of the command line: a letter, a word, or both.
type option struct {
	letters string
	word    string
	value   bool // one follows
	set     func(a *app, value string) error
}

// getopt reads options as getopt_long(3) does: between arguments too, words also
// shortened, letters together, values with or without a space.
func getopt(a *app, options []option, args []string) (rest []string, ok bool) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), true
		case strings.HasPrefix(arg, "--"):
			args, ok = longOption(a, options, arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args, ok = letterOptions(a, options, arg[1:], args)
		default:
			rest = append(rest, arg)
			continue
		}
		if !ok {
			return nil, false
		}
	}
	return rest, true
}

func longOption(a *app, options []option, arg string, args []string) ([]string, bool) {
	word, value, given := strings.Cut(arg, "=")
	var found []option
	for _, o := range options {
		if o.word == word {
			found = []option{o}
			break
		}
		if o.word != "" && strings.HasPrefix(o.word, word) {
			found = append(found, o)
		}
	}
	switch {
	case len(found) == 0:
		return a.misused("unrecognized option '--%s'", arg)
	case len(found) > 1:
		var names strings.Builder
		for _, o := range found {
			fmt.Fprintf(&names, " '--%s'", o.word)
		}
		return a.misused("option '--%s' is ambiguous; possibilities:%s", arg, names.String())
	}
	o := found[0]
	switch {
	case given && !o.value:
		return a.misused("option '--%s' doesn't allow an argument", o.word)
	case o.value && !given:
		if len(args) == 0 {
			return a.misused("option '--%s' requires an argument", o.word)
		}
		value, args = args[0], args[1:]
	}
	return args, a.set(o, value)
}

func letterOptions(a *app, options []option, letters string, args []string) ([]string, bool) {
	for i := range len(letters) {
		var o *option
		for n := range options {
			if strings.IndexByte(options[n].letters, letters[i]) >= 0 {
				o = &options[n]
			}
		}
		if o == nil {
			return a.misused("invalid option -- '%c'", letters[i])
		}
		// The word verbose takes a value, the letter does not.
		if !o.value || o.word == "verbose" {
			if !a.set(*o, "") {
				return nil, false
			}
			continue
		}
		value := letters[i+1:]
		if value == "" {
			if len(args) == 0 {
				return a.misused("option requires an argument -- '%c'", letters[i])
			}
			value, args = args[0], args[1:]
		}
		return args, a.set(*o, value)
	}
	return args, true
}

func (a *app) misused(format string, args ...any) ([]string, bool) {
	a.errorf(a.name+": "+format, args...)
	return nil, false
}

func (a *app) set(o option, value string) bool {
	if err := o.set(a, value); err != nil {
		a.errorf("%s", err)
		return false
	}
	return true
}
