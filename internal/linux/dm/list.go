package dm

import (
	"bytes"
	"slices"
)

// Listed is a device in the list of all.
type Listed struct {
	Name  string
	UUID  string // since Linux 5.13
	Dev   Dev
	Event uint32
}

// listUUID is the version of the interface that lists UUIDs.
const listUUID = 45

// List is all devices.
func (c *Conn) List() ([]Listed, error) {
	return list(c, OpList, "", func(b []byte) ([]Listed, error) { return decodeList(b, !c.version.less(listUUID)) })
}

// TargetVersion is a target that the kernel has.
type TargetVersion struct {
	Name    string
	Version Version
}

// Targets are those that the kernel has in memory; others it may have as modules.
func (c *Conn) Targets() ([]TargetVersion, error) { return list(c, OpTargets, "", decodeVersions) }

// Target is a target by name, whose module the kernel loads if it has to.
func (c *Conn) Target(name string) (TargetVersion, error) {
	all, err := list(c, OpTargetVersion, name, decodeVersions)
	if err == nil && len(all) == 0 {
		err = &Error{Op: OpTargetVersion, Targets: []string{name}, Err: errAnswer}
	}
	if err != nil {
		return TargetVersion{}, err
	}
	return all[0], nil
}

// list makes a request without a device; target is what it is about.
func list[T any](c *Conn, op Op, target string, decode func([]byte) ([]T, error)) ([]T, error) {
	fail := func(err error) ([]T, error) {
		if e, ok := err.(*Error); ok {
			err = e.Err
		}
		e := &Error{Op: op, Err: err}
		if target != "" {
			e.Targets = []string{target}
		}
		return nil, e
	}
	q := &request{op: op, ref: Ref{Name: target}}
	if op == OpList && !c.version.less(listUUID) {
		q.flags |= flagUUID
	}
	r, err := c.do(q)
	if err != nil {
		return fail(err)
	}
	defer r.wipe()
	b, err := r.data()
	if err != nil {
		return fail(err)
	}
	all, err := decode(b)
	if err != nil {
		return fail(err)
	}
	return all, nil
}

// decodeList reads structures dm_name_list, each followed, where its name ends, by
// the number of its last event, flags and a UUID.
func decodeList(b []byte, uuids bool) ([]Listed, error) {
	const nameAt, hasUUID = 12, 1
	var all []Listed
	for {
		if len(all) == 0 && (len(b) == 0 || len(b) >= 8 && native.Uint64(b) == 0) { // no device at all
			return nil, nil
		}
		if len(b) < nameAt {
			return nil, errAnswer
		}
		dev := native.Uint64(b)
		end := bytes.IndexByte(b[nameAt:], 0)
		if end < 0 {
			return nil, errAnswer
		}
		d := Listed{Name: string(b[nameAt : nameAt+end]), Dev: decodeDev(dev)}
		if more := align(nameAt + end + 1); more+8 <= len(b) {
			d.Event = native.Uint32(b[more:])
			if uuids && native.Uint32(b[more+4:])&hasUUID != 0 {
				d.UUID = text(b[more+8:])
			}
		}
		all = append(all, d)
		next := native.Uint32(b[8:])
		if next == 0 {
			return all, nil
		}
		if uint64(next) > uint64(len(b)) {
			return nil, errAnswer
		}
		b = b[next:]
	}
}

// decodeVersions reads structures dm_target_versions.
func decodeVersions(b []byte) ([]TargetVersion, error) {
	const nameAt = 16
	var all []TargetVersion
	for len(b) > 0 {
		if len(b) < nameAt {
			return nil, errAnswer
		}
		t := TargetVersion{Name: text(b[nameAt:])}
		for i := range t.Version {
			t.Version[i] = native.Uint32(b[4+4*i:])
		}
		all = append(all, t)
		next := native.Uint32(b)
		if next == 0 {
			break
		}
		if uint64(next) > uint64(len(b)) {
			return nil, errAnswer
		}
		b = b[next:]
	}
	return slices.Clip(all), nil
}
