package dm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Ref says which device is meant: by its name, its UUID or its number.
type Ref struct {
	Name string
	UUID string
	Dev  Dev
}

// Name is the device of a name.
func Name(name string) Ref { return Ref{Name: name} }

// UUID is the device with a UUID.
func UUID(uuid string) Ref { return Ref{UUID: uuid} }

// Number is the device with a number.
func Number(d Dev) Ref { return Ref{Dev: d} }

func (r Ref) String() string {
	var parts []string
	if r.Name != "" {
		parts = append(parts, r.Name)
	}
	if r.UUID != "" {
		parts = append(parts, "uuid "+r.UUID)
	}
	if r.Dev != (Dev{}) {
		parts = append(parts, "("+r.Dev.String()+")")
	}
	return strings.Join(parts, " ")
}

func (r Ref) check() error {
	if err := CheckName(r.Name); r.Name != "" && err != nil {
		return err
	}
	if len(r.UUID) >= uuidSize {
		return fmt.Errorf("the UUID %q is longer than %d bytes", r.UUID, uuidSize-1)
	}
	return nil
}

// Dev is the number of a block device.
type Dev struct{ Major, Minor uint32 }

func (d Dev) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// ParseDev reads MAJOR:MINOR.
func ParseDev(s string) (Dev, error) {
	major, minor, ok := strings.Cut(s, ":")
	a, err1 := strconv.ParseUint(major, 10, 12)
	b, err2 := strconv.ParseUint(minor, 10, 20)
	if !ok || errors.Join(err1, err2) != nil {
		return Dev{}, fmt.Errorf("%q is no device number, MAJOR:MINOR", s)
	}
	return Dev{uint32(a), uint32(b)}, nil
}

func (d Dev) encode() uint64     { return unix.Mkdev(d.Major, d.Minor) }
func decodeDev(n uint64) (d Dev) { return Dev{unix.Major(n), unix.Minor(n)} }

// Info is what the kernel knows of a device beside its table.
type Info struct {
	Name, UUID string
	Dev        Dev
	OpenCount  int32 // -1 if it was not asked for
	Targets    int32 // lines of the live table
	Event      uint32

	Suspended       bool
	ReadOnly        bool
	Live            bool // there is a live table
	Inactive        bool // there is a table that Resume makes live
	DeferredRemove  bool // it goes with its last user
	InternalSuspend bool // the kernel has suspended it, for another device
}

// Ref is the device by its number, which is its own as long as it is there.
func (i Info) Ref() Ref { return Number(i.Dev) }
