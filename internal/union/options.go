package union

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Policy says which writable branch gets something new, or a copy.
type Policy string

// Policies. Those of something new are all but BUP and BU; those of copies are TDP,
// BUP and BU.
const (
	TDP        Policy = "tdp"    // the topmost where the parent directory is
	TDMFS      Policy = "tdmfs"  // as TDP while that has at least Low bytes free, else MFS
	RoundRobin Policy = "rr"     // one after the other
	MFS        Policy = "mfs"    // the one with most free space
	MFSRR      Policy = "mfsrr"  // as MFS while that has at least Low bytes free, else RoundRobin
	PMFS       Policy = "pmfs"   // the one with most free space among those where the parent is, else TDP
	PMFSRR     Policy = "pmfsrr" // as PMFS while that has at least Low bytes free, else RoundRobin
	BUP        Policy = "bup"    // the nearest above where the parent is
	BU         Policy = "bu"     // the nearest above
)

// Placement is a create policy with its parameters.
type Placement struct {
	Policy Policy
	Low    uint64        // bytes; of TDMFS, MFSRR and PMFSRR
	Every  time.Duration // how long a measurement of free space is used
}

// Options of a union; Defaults has those of one that names none.
type Options struct {
	Create        Placement
	CopyUp        Policy // TDP, BUP or BU
	Revalidate    bool   // udba=reval: what is changed directly in a branch is seen at the next lookup
	CopyOnOpen    string // coo=none, leaf or all: what is copied up when it is opened, even for reading
	AlwaysOpaque  bool   // diropq=a: each new directory is opaque
	Sum           bool   // statfs is the sum over the branches
	ShowWhiteouts bool
	Volatile      bool // nothing of it has to survive a power cut
	Flags         Flags
}

// Flags are those of any mount.
type Flags struct{ ReadOnly, NoSuid, NoDev, NoExec, NoAtime bool }

// Defaults are the options of a union that names none.
func Defaults() Options {
	return Options{Create: Placement{Policy: TDP, Every: every}, CopyUp: TDP, Revalidate: true, CopyOnOpen: "none"}
}

// Config is a union as it is asked for.
type Config struct {
	Branches []Branch
	Options  Options
}

// ParseConfig reads what follows -o in a mount command: words with commas
// between them, br: (or br=, dirs=) and the branches among them.
func ParseConfig(s string) (Config, error) {
	c := Config{Options: Defaults()}
	for word := range strings.SplitSeq(s, ",") {
		if list, ok := branchesOf(word); ok {
			if c.Branches != nil {
				return Config{}, fmt.Errorf("option %q: branches are given twice", word)
			}
			var err error
			if c.Branches, err = ParseBranches(list); err != nil {
				return Config{}, err
			}
			continue
		}
		if err := c.Options.set(word); err != nil {
			return Config{}, err
		}
	}
	if c.Branches == nil {
		_, err := ParseBranches("")
		return Config{}, err
	}
	return c, c.check()
}

func branchesOf(word string) (string, bool) {
	for _, p := range []string{"br:", "br=", "dirs="} {
		if list, ok := strings.CutPrefix(word, p); ok {
			return list, true
		}
	}
	return "", false
}

// check refuses what does not go together.
func (c Config) check() error {
	if !c.Options.ShowWhiteouts || c.Options.Flags.ReadOnly {
		return nil
	}
	return fmt.Errorf("option shwh: whiteouts are shown only by a union that is mounted ro")
}

// set takes one word of the options.
func (o *Options) set(word string) error {
	key, value, has := strings.Cut(word, "=")
	if set := o.flag(key); set != nil && !has {
		set()
		return nil
	}
	switch {
	case key == "create" && has:
		p, err := ParsePlacement(value)
		if err == nil {
			o.Create = p
		}
		return err
	case key == "cpup" && has:
		return choose(word, value, map[string]func(){
			"tdp": func() { o.CopyUp = TDP }, "top-down-parent": func() { o.CopyUp = TDP },
			"bup": func() { o.CopyUp = BUP }, "bottom-up-parent": func() { o.CopyUp = BUP },
			"bu": func() { o.CopyUp = BU }, "bottom-up": func() { o.CopyUp = BU },
		})
	case word == "udba=notify" || word == "udba=inotify" || word == "udba=fsnotify":
		return fmt.Errorf("option %q: branches are not watched; with udba=reval a change is seen at the next lookup", word)
	case key == "udba" && has:
		return choose(word, value, map[string]func(){
			"none": func() { o.Revalidate = false }, "reval": func() { o.Revalidate = true },
		})
	case key == "coo" && has:
		return choose(word, value, map[string]func(){
			"none": func() { o.CopyOnOpen = value }, "leaf": func() { o.CopyOnOpen = value }, "all": func() { o.CopyOnOpen = value },
		})
	case key == "diropq" && has:
		return choose(word, value, map[string]func(){
			"a": func() { o.AlwaysOpaque = true }, "always": func() { o.AlwaysOpaque = true },
			"w": func() { o.AlwaysOpaque = false }, "whiteouted": func() { o.AlwaysOpaque = false },
		})
	}
	return fmt.Errorf("unknown option %q of a union mount", word)
}

// flag returns what a word without a value does.
func (o *Options) flag(word string) func() {
	f := &o.Flags
	return map[string]func(){
		"sum": func() { o.Sum = true }, "nosum": func() { o.Sum = false },
		"shwh": func() { o.ShowWhiteouts = true }, "noshwh": func() { o.ShowWhiteouts = false },
		"volatile": func() { o.Volatile = true },
		// What these two ask for is how every union is: permissions are those of the
		// topmost directory, names of one file stay together when it is copied up.
		"dirperm1": func() {}, "plink": func() {},
		"ro": func() { f.ReadOnly = true }, "rw": func() { f.ReadOnly = false },
		"nosuid": func() { f.NoSuid = true }, "suid": func() { f.NoSuid = false },
		"nodev": func() { f.NoDev = true }, "dev": func() { f.NoDev = false },
		"noexec": func() { f.NoExec = true }, "exec": func() { f.NoExec = false },
		"noatime": func() { f.NoAtime = true }, "relatime": func() { f.NoAtime = false },
		"defaults": func() {},
	}[word]
}

func choose(word, value string, choices map[string]func()) error {
	if f := choices[value]; f != nil {
		f()
		return nil
	}
	return fmt.Errorf("option %q: unknown value %q", word, value)
}

// every is how long a measurement of free space is used if nobody says it.
const every = 30 * time.Second

// ParsePlacement reads a create policy as the option create= has it:
// POLICY[:LOW][:SECONDS]. LOW is there with the policies that have a low-water mark.
func ParsePlacement(s string) (Placement, error) {
	parts := strings.Split(s, ":")
	p := Placement{Policy: Policy(shortName(parts[0])), Every: every}
	low, sec := false, false
	switch p.Policy {
	case TDP, RoundRobin:
	case MFS, PMFS:
		sec = true
	case TDMFS, MFSRR, PMFSRR:
		low, sec = true, true
	default:
		return Placement{}, fmt.Errorf("option create=%s: unknown policy %q", s, parts[0])
	}
	parts = parts[1:]
	if low {
		if len(parts) == 0 {
			return Placement{}, fmt.Errorf("option create=%s: the low-water mark in bytes is missing; write create=%s:BYTES", s, p.Policy)
		}
		n, err := strconv.ParseUint(parts[0], 10, 64)
		if err != nil {
			return Placement{}, fmt.Errorf("option create=%s: %q is no number of bytes", s, parts[0])
		}
		p.Low, parts = n, parts[1:]
	}
	if sec && len(parts) > 0 {
		n, err := strconv.ParseUint(parts[0], 10, 32)
		if err != nil || n > math.MaxInt32 {
			return Placement{}, fmt.Errorf("option create=%s: %q is no number of seconds", s, parts[0])
		}
		p.Every, parts = time.Duration(n)*time.Second, parts[1:]
	}
	if len(parts) > 0 {
		return Placement{}, fmt.Errorf("option create=%s: %q is too much", s, strings.Join(parts, ":"))
	}
	return p, nil
}

// shortName turns a long name of aufs(5) into the short one.
func shortName(s string) string {
	switch s {
	case "top-down-parent":
		return "tdp"
	case "round-robin":
		return "rr"
	case "most-free-space":
		return "mfs"
	}
	return s
}

// Args writes the configuration as words that FromArgs reads: branches may have
// more letters together than one word of a command line may have.
func (c Config) Args() []string {
	args := []string{c.Options.String()}
	for _, b := range c.Branches {
		args = append(args, b.String())
	}
	return args
}

// FromArgs reads what Args has written.
func FromArgs(args []string) (Config, error) {
	if len(args) < 2 {
		return Config{}, fmt.Errorf("no branches given")
	}
	return ParseConfig("br:" + strings.Join(args[1:], ":") + "," + args[0])
}

// String writes the options as ParseConfig reads them.
func (o Options) String() string {
	words := []string{"create=" + o.Create.String(), "cpup=" + string(o.CopyUp), "coo=" + o.CopyOnOpen}
	add := func(on bool, yes, no string) {
		if on {
			words = append(words, yes)
		} else if no != "" {
			words = append(words, no)
		}
	}
	add(o.Revalidate, "udba=reval", "udba=none")
	add(o.AlwaysOpaque, "diropq=a", "")
	add(o.Sum, "sum", "")
	add(o.ShowWhiteouts, "shwh", "")
	add(o.Volatile, "volatile", "")
	add(o.Flags.ReadOnly, "ro", "")
	add(o.Flags.NoSuid, "nosuid", "")
	add(o.Flags.NoDev, "nodev", "")
	add(o.Flags.NoExec, "noexec", "")
	add(o.Flags.NoAtime, "noatime", "")
	return strings.Join(words, ",")
}

// String writes the policy as the option create= has it.
func (p Placement) String() string {
	s := string(p.Policy)
	switch p.Policy {
	case TDP, RoundRobin:
		return s
	case TDMFS, MFSRR, PMFSRR:
		s += ":" + strconv.FormatUint(p.Low, 10)
	}
	return s + ":" + strconv.Itoa(int(p.Every/time.Second))
}
