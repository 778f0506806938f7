package idrange

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Where containers with a range of their own get it from, unless the host says
// otherwise: 12,288 ranges in the upper part of what systemd sets aside for
// containers (0x00080000 to 0x6fffffff), above all that useradd gives to users
// (SUB_UID_MAX of login.defs: 600,100,000), below what is negative as a signed
// number.
const (
	poolStart = 0x40000000
	poolEnd   = 0x70000000 // the first id behind it
)

// AutoUser is whose ranges are the pool if the host gives it some.
const AutoUser = "tare"

// Sizes of a container's range.
const (
	DefaultSize = 65536
	MinSize     = 1024 // every image has users below: nobody is 65534, systemd's are below 1000
)

// Pool gives each container a range of ids that no other has, unless they share it. Users and groups
// get the same numbers. Safe for concurrent use.
type Pool struct {
	mu   sync.Mutex
	from []span // where to take from
	used []span // by start; as often as containers share it
}

// AutoRange makes the pool of a value of --userns-auto-range: START:SIZE in
// ids, the name of a user whose ranges it takes, or "": those of [AutoUser] if
// either file names him, else the default.
func (h Host) AutoRange(value string) (*Pool, error) {
	if value == "" {
		p, err := h.poolOf(AutoUser)
		if errors.Is(err, errUnnamed) {
			return &Pool{from: []span{{poolStart, poolEnd - poolStart}}}, nil
		}
		return p, err
	}
	first, second, ok := strings.Cut(value, ":")
	if !ok {
		return h.poolOf(value)
	}
	start, err1 := strconv.ParseUint(first, 10, 32)
	size, err2 := strconv.ParseUint(second, 10, 32)
	if err1 != nil || err2 != nil || start < MinSize || size < MinSize || start+size > 1<<32-1 {
		return nil, fmt.Errorf("userns-auto-range %q: want USER or START:SIZE in ids, both at least %d", value, MinSize)
	}
	return &Pool{from: []span{{start, size}}}, nil
}

var errUnnamed = errors.New("neither subuid nor subgid names him")

// poolOf is made of what a user has in subuid and subgid alike.
func (h Host) poolOf(user string) (*Pool, error) {
	e, err := h.entry("passwd", user, -1)
	if err != nil {
		e = entry{user, -1} // a range can be given to a name that is no user
	}
	uids, err1 := h.ranges("subuid", e)
	gids, err2 := h.ranges("subgid", e)
	for _, err := range []error{err1, err2} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("userns-auto-range: %w", err)
		}
	}
	if len(uids) == 0 && len(gids) == 0 {
		return nil, fmt.Errorf("userns-auto-range: user %q: %w", user, errUnnamed)
	}
	p := &Pool{}
	for _, u := range uids {
		for _, g := range gids {
			start, end := max(u.start, g.start), min(u.start+u.size, g.start+g.size)
			if start < end {
				p.from = append(p.from, span{start, end - start})
			}
		}
	}
	if len(p.from) == 0 {
		return nil, fmt.Errorf("userns-auto-range: user %q has no range of ids that is in both subuid and subgid", user)
	}
	return p, nil
}

// Take returns the map of a range of size ids that is the caller's until Give.
func (p *Pool) Take(size uint32) (*Map, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.from {
		at := f.start
		for _, u := range p.used { // by start, and apart or the same
			if u.start+u.size <= at {
				continue
			}
			if u.start >= at+uint64(size) {
				break
			}
			at = u.start + u.size
		}
		if at+uint64(size) <= f.start+f.size {
			p.add(span{at, uint64(size)})
			return mapOf(uint32(at), size), nil
		}
	}
	return nil, fmt.Errorf("all ranges of ids for containers are in use: none of %d is free", size)
}

func mapOf(start, size uint32) *Map {
	list := func() []specs.LinuxIDMapping { return []specs.LinuxIDMapping{{HostID: start, Size: size}} }
	return &Map{UIDs: list(), GIDs: list(), Auto: true}
}

func (p *Pool) add(s span) {
	p.used = append(p.used, s)
	slices.SortFunc(p.used, func(a, b span) int { return int(int64(a.start) - int64(b.start)) })
}

// Keep notes the range of a container that has it from an earlier engine.
func (p *Pool) Keep(m *Map) {
	if m == nil || !m.Auto {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range m.UIDs {
		p.add(span{uint64(r.HostID), uint64(r.Size)})
	}
}

// Share notes that another container has the range of one that is there, until
// its own Give. It reports false if nobody has that range any more.
func (p *Pool) Share(m *Map) bool {
	if m == nil || !m.Auto {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range m.UIDs {
		s := span{uint64(r.HostID), uint64(r.Size)}
		if !slices.Contains(p.used, s) {
			return false
		}
		p.add(s)
	}
	return true
}

// Give takes back what Take, Keep or Share gave.
func (p *Pool) Give(m *Map) {
	if m == nil || !m.Auto {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range m.UIDs {
		s := span{uint64(r.HostID), uint64(r.Size)}
		if i := slices.Index(p.used, s); i >= 0 {
			p.used = slices.Delete(p.used, i, i+1)
		}
	}
}
