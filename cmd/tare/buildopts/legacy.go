package buildopts

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/tare-engine/tare/cmd/tare/opts"
)

// legacy are flags of builders before BuildKit, which scripts still give. They do
// nothing, as with buildx; where that matters it is said.
var legacy = []struct {
	name, letter, kind string
	instead            string // "": what it asks for is how things are
}{
	{"compress", "", "bool", ""},
	{"rm", "", "bool", ""},
	{"force-rm", "", "bool", ""},
	{"cpu-period", "", "int64", limits},
	{"cpu-quota", "", "int64", limits},
	{"cpu-shares", "c", "int64", limits},
	{"cpuset-cpus", "", "string", limits},
	{"cpuset-mems", "", "string", limits},
	{"memory", "m", "bytes", limits},
	{"memory-swap", "", "bytes", limits},
	{"isolation", "", "string", "it is of Windows"},
	{"security-opt", "", "stringSlice", `"RUN --security=insecure" in the Dockerfile, with --allow, has its place`},
	{"squash", "", "bool", "several stages in the Dockerfile keep an image small"},
}

const limits = "--cgroup-parent limits what a build may use"

// addLegacy defines them. None is shown by help.
func (o *Options) addLegacy(f *pflag.FlagSet) {
	for _, l := range legacy {
		v := &unused{kind: l.kind}
		if l.instead != "" {
			note := fmt.Sprintf("--%s has no effect with BuildKit: %s", l.name, l.instead)
			v.given = func() { o.Notes = append(o.Notes, note) }
		}
		f.VarP(v, l.name, l.letter, "Of builders before BuildKit")
		flag := f.Lookup(l.name)
		flag.Hidden = true
		if l.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	opts.AddUntrusted(f)
}

// unused is a flag whose value matters to nobody.
type unused struct {
	kind  string
	given func() // may be nil
}

func (u *unused) String() string { return "" }
func (u *unused) Type() string   { return u.kind }

func (u *unused) Set(string) error {
	if u.given != nil {
		u.given()
		u.given = nil // once is enough
	}
	return nil
}
