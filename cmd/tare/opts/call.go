package opts

import "github.com/spf13/pflag"

// CallValues has help call what flags take by docker's word for it, where
// pflag's own is another. What is not given is not shown as a default.
func CallValues(f *pflag.FlagSet, word string, names ...string) {
	for _, name := range names {
		flag := f.Lookup(name)
		flag.Value = called{flag.Value, word}
		if flag.DefValue == "[]" {
			flag.DefValue = ""
		}
	}
}

// called is a value with another word for it.
type called struct {
	pflag.Value
	word string
}

func (c called) Type() string { return c.word }
