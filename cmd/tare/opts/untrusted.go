package opts

import (
	"errors"
	"strconv"

	"github.com/spf13/pflag"
)

// AddUntrusted adds --disable-content-trust. Who wants signatures to be checked must
// not believe that they were.
func AddUntrusted(f *pflag.FlagSet) {
	f.Var(untrusted{}, "disable-content-trust", "Skip verification of the image")
	f.Lookup("disable-content-trust").NoOptDefVal = "true"
	f.Lookup("disable-content-trust").Hidden = true
}

type untrusted struct{}

func (untrusted) String() string { return "true" }
func (untrusted) Type() string   { return "bool" }

func (untrusted) Set(text string) error {
	if on, err := strconv.ParseBool(text); err != nil || !on {
		return errors.Join(err, errors.New("signatures of images are not checked"))
	}
	return nil
}
