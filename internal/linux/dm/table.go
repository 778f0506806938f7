package dm

import "errors"

// Query says what is asked for.
type Query struct {
	Inactive    bool // the inactive table
	NoOpenCount bool // whatever opens the device meanwhile may wait
	NoFlush     bool // what the target has in memory only need not be written first
	Measure     bool // also have the table measured (IMA)
}

func (q Query) flags() (f uint32) {
	for flag, is := range map[uint32]bool{flagQueryInactive: q.Inactive, flagNoOpenCount: q.NoOpenCount, flagNoFlush: q.NoFlush, flagIMA: q.Measure} {
		if is {
			f |= flag
		}
	}
	return f
}

// Info is what the kernel knows of a device.
func (c *Conn) Info(ref Ref, q Query) (Info, error) {
	r, err := c.do(&request{op: OpInfo, ref: ref, flags: q.flags()})
	if err != nil {
		return Info{}, err
	}
	defer r.wipe()
	return r.info(), nil
}

// Table is a device's table. Who is done with it wipes it.
func (c *Conn) Table(ref Ref, q Query) (Info, Table, error) {
	return c.lines(&request{op: OpTable, ref: ref, flags: q.flags() | flagSecure})
}

// Status is what the targets say of themselves, one line each.
func (c *Conn) Status(ref Ref, q Query) (Info, Table, error) {
	return c.lines(&request{op: OpStatus, ref: ref, flags: q.flags()})
}

func (c *Conn) lines(q *request) (Info, Table, error) {
	r, err := c.do(q)
	if err != nil {
		return Info{}, nil, err
	}
	defer r.wipe()
	t, err := r.lines()
	if err != nil {
		return Info{}, nil, &Error{Op: q.op, Ref: q.ref, Err: err}
	}
	return r.info(), t, nil
}

// LoadOptions are those of Load.
type LoadOptions struct {
	ReadOnly bool
	Measure  bool // by IMA
}

// Load gives a device a new table, which becomes live by Resume. The error of a bad
// one names its targets and, where the kernel's log can be read, the reason.
func (c *Conn) Load(ref Ref, t Table, o LoadOptions) (Info, error) {
	return c.load(ref, ref, t, o)
}

// load is Load, with another reference to the device in its errors.
func (c *Conn) load(ref, named Ref, t Table, o LoadOptions) (Info, error) {
	fail := func(err error) (Info, error) {
		return Info{}, &Error{Op: OpLoad, Ref: named, Targets: t.types(), Err: err}
	}
	if len(t) == 0 {
		return fail(errors.New("the table is empty"))
	}
	data, err := t.encode()
	if err != nil {
		return fail(err)
	}
	defer clear(data)
	q := &request{op: OpLoad, ref: ref, flags: flagSecure, targets: uint32(len(t)), data: data}
	if o.ReadOnly {
		q.flags |= flagReadOnly
	}
	if o.Measure {
		q.flags |= flagIMA
	}
	log := c.reasons()
	r, err := c.do(q)
	said := log()
	if err != nil {
		e := err.(*Error)
		e.Ref, e.Targets = named, t.types()
		if info, err := c.Info(ref, Query{NoOpenCount: true}); err == nil {
			e.Reason = reason(said, info.Dev)
		}
		return Info{}, e
	}
	defer r.wipe()
	return r.info(), nil
}

// Clear drops the inactive table.
func (c *Conn) Clear(ref Ref) (Info, error) {
	r, err := c.do(&request{op: OpClear, ref: ref})
	if err != nil {
		return Info{}, err
	}
	defer r.wipe()
	return r.info(), nil
}

// Deps are the devices that a device's table uses.
func (c *Conn) Deps(ref Ref, q Query) (Info, []Dev, error) {
	r, err := c.do(&request{op: OpDeps, ref: ref, flags: q.flags()})
	if err != nil {
		return Info{}, nil, err
	}
	defer r.wipe()
	b, err := r.data()
	if err == nil {
		var devs []Dev
		if devs, err = decodeDeps(b); err == nil {
			return r.info(), devs, nil
		}
	}
	return Info{}, nil, &Error{Op: OpDeps, Ref: ref, Err: err}
}

func decodeDeps(b []byte) ([]Dev, error) {
	if len(b) == 0 { // a device without a table
		return nil, nil
	}
	if len(b) < 8 {
		return nil, errAnswer
	}
	n := native.Uint32(b)
	if uint64(n)*8+8 > uint64(len(b)) {
		return nil, errAnswer
	}
	devs := make([]Dev, n)
	for i := range devs {
		devs[i] = decodeDev(native.Uint64(b[8+8*i:]))
	}
	return devs, nil
}
