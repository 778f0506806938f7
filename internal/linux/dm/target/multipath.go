package target

import "fmt"

// Multipath reaches one device by several ways. The paths of one group are used in
// turn; the next group is used when no path of it is left.
type Multipath struct {
	// Features are queue_if_no_path, pg_init_retries and pg_init_delay_msecs with a
	// number, retain_attached_hw_handler, queue_mode with bio, rq or mq.
	Features Args
	Handler  Args // of the hardware: its name and arguments
	Initial  uint64
	Groups   []PathGroup
}

// PathGroup is paths that are alike.
type PathGroup struct {
	Selector     string // round-robin, queue-length, service-time, historical-service-time, io-affinity
	SelectorArgs Args
	Paths        []Path // each with as many arguments
}

// Path is a way.
type Path struct {
	Device string
	Args   []string
}

// Type is multipath.
func (*Multipath) Type() string { return "multipath" }

// AppendParams appends FEATURES HANDLER NUMBER INITIAL GROUPS.
func (t *Multipath) AppendParams(b []byte) []byte {
	b = append(t.Features.append(b), ' ')
	b = fmt.Appendf(t.Handler.append(b), " %d %d ", len(t.Groups), t.Initial)
	for _, g := range t.Groups {
		b = append(append(b, g.Selector...), ' ')
		b = g.SelectorArgs.append(b)
		args := 0
		if len(g.Paths) > 0 {
			args = len(g.Paths[0].Args)
		}
		b = fmt.Appendf(b, " %d %d ", len(g.Paths), args)
		for _, p := range g.Paths {
			for _, w := range append([]string{p.Device}, p.Args...) {
				b = append(append(b, w...), ' ')
			}
		}
	}
	return b
}

// Validate counts, and knows the features.
func (t *Multipath) Validate() error {
	err := t.Features.check(map[string]int{"queue_if_no_path": 0, "pg_init_retries": 1, "pg_init_delay_msecs": 1, "retain_attached_hw_handler": 0, "queue_mode": 1})
	if err == nil {
		err = checkWords(t.Handler)
	}
	switch n := uint64(len(t.Groups)); {
	case err != nil:
	case n == 0 && t.Initial != 0 || n > 0 && (t.Initial < 1 || t.Initial > n):
		err = fmt.Errorf("the first group is %d of %d", t.Initial, n)
	}
	for _, g := range t.Groups {
		if err == nil {
			err = g.check()
		}
	}
	if err != nil {
		return fmt.Errorf("target multipath: %w", err)
	}
	return nil
}

func (g PathGroup) check() error {
	if err := checkWords(append(Args{g.Selector}, g.SelectorArgs...)); err != nil {
		return err
	}
	if len(g.Paths) == 0 {
		return fmt.Errorf("a group has no path")
	}
	for _, p := range g.Paths {
		if err := checkDevice(p.Device); err != nil {
			return err
		}
		if err := checkWords(p.Args); err != nil {
			return err
		}
		if len(p.Args) != len(g.Paths[0].Args) {
			return fmt.Errorf("path %s has %d arguments, the first of its group %d", p.Device, len(p.Args), len(g.Paths[0].Args))
		}
	}
	return nil
}

func (t *Multipath) parse(w *words) {
	t.Features, t.Handler = w.args("features"), w.args("words of the hardware handler")
	n := w.count("number of groups")
	t.Initial = w.number("first group")
	for range n {
		g := PathGroup{Selector: w.word("selector"), SelectorArgs: w.args("arguments of the selector")}
		paths, args := w.count("number of paths"), w.count("number of arguments of a path")
		for range paths {
			p := Path{w.word("path"), w.list(args, "argument of a path")}
			if w.err != nil {
				return
			}
			g.Paths = append(g.Paths, p)
		}
		if w.err != nil {
			return
		}
		if len(g.Paths) == 0 && args > 0 {
			w.fail("a group without paths has %d arguments for each", args)
			return
		}
		t.Groups = append(t.Groups, g)
	}
}

// MultipathStatus is which paths work.
type MultipathStatus struct {
	Features Args // whether requests are queued, and for how many paths a handler works
	Handler  Args
	Next     uint64 // group that is used, or will be
	Groups   []PathGroupStatus
}

// PathGroupStatus is a group's state.
type PathGroupStatus struct {
	State        string // A (in use), E (could be), D (disabled)
	SelectorArgs Args
	Paths        []PathStatus
	args         int // of each path, also if there is none
}

// PathStatus is a way's state.
type PathStatus struct {
	Device   string
	State    string // A (works), F (failed)
	Failures uint64
	Args     []string // of the selector
}

// AppendStatus appends FEATURES HANDLER NUMBER NEXT GROUPS.
func (s *MultipathStatus) AppendStatus(b []byte) []byte {
	b = append(s.Features.append(b), ' ')
	b = fmt.Appendf(s.Handler.append(b), " %d %d ", len(s.Groups), s.Next)
	for _, g := range s.Groups {
		b = append(append(b, g.State...), ' ')
		b = fmt.Appendf(g.SelectorArgs.append(b), " %d %d ", len(g.Paths), g.args)
		for _, p := range g.Paths {
			b = fmt.Appendf(b, "%s %s %d ", p.Device, p.State, p.Failures)
			for _, a := range p.Args {
				b = append(append(b, a...), ' ')
			}
		}
	}
	return b
}

func (s *MultipathStatus) parse(w *words) {
	s.Features, s.Handler = w.args("features"), w.args("words of the hardware handler")
	n := w.count("number of groups")
	s.Next = w.number("next group")
	for range n {
		g := PathGroupStatus{State: w.word("state of a group"), SelectorArgs: w.args("words of the selector")}
		paths := w.count("number of paths")
		g.args = w.count("number of words of a path")
		for range paths {
			p := PathStatus{w.word("path"), w.word("state of a path"), w.number("number of failures"), w.list(g.args, "word of a path")}
			if w.err != nil {
				return
			}
			g.Paths = append(g.Paths, p)
		}
		if w.err != nil {
			return
		}
		s.Groups = append(s.Groups, g)
	}
}
