package spawn

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sample has every kind of argument.
func sample() *Plan {
	p := NewPlan()
	p.ResetSignals()
	p.Do("open", SysOpenat, Int(unix.AT_FDCWD), p.Str("/etc/passwd"), Nil).To(0)
	p.Do("keep", NrStore, p.Words(Nil, HeaderPtr(offSlots)).Plus(8), Slot(0))
	p.Gate(FD(0), FD(1))
	p.Terminal(TerminalOptions{UID: 1, Rows: 24, Cols: 80, Console: Slot(3)})
	p.ControllingTTY()
	p.CloneSecond()
	p.ParkStep()
	p.Exec("prog", "/bin:/sbin", []string{"prog", "arg"}, []string{"A=b"})
	return p
}

func TestBuiltImagesAreValid(t *testing.T) {
	for _, p := range []*Plan{NewPlan(), sample()} {
		if err := p.Image().Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestPlanPrints(t *testing.T) {
	got := sample().String()
	for _, want := range []string{
		`1 open: openat(-100, "/etc/passwd") -> $0`,
		`execve /bin/prog: execve("/bin/prog", &data+`,
		"clone second: clone(",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestMalformedImagesAreRefused(t *testing.T) {
	le := binary.LittleEndian
	step := func(im Image, i int) []byte { return im.Bytes[headerSize+i*stepSize:] }
	for name, spoil := range map[string]func(im *Image){
		"empty":                    func(im *Image) { im.Bytes = nil },
		"short":                    func(im *Image) { im.Bytes = im.Bytes[:headerSize] },
		"huge":                     func(im *Image) { im.Bytes = make([]byte, maxImage+8) },
		"first step elsewhere":     func(im *Image) { le.PutUint64(im.Bytes, 8) },
		"header with a report":     func(im *Image) { im.Bytes[offReport] = 1 },
		"no end":                   func(im *Image) { im.Bytes = im.Bytes[:headerSize+3*stepSize] },
		"no relocations":           func(im *Image) { im.Relocs = nil },
		"first relocation missing": func(im *Image) { im.Relocs = im.Relocs[1:] },
		"relocation twice":         func(im *Image) { im.Relocs = append([]uint32{0, im.Relocs[1]}, im.Relocs[1:]...) },
		"relocation outside":       func(im *Image) { im.Relocs = append(im.Relocs, uint32(len(im.Bytes)+7)&^7) },
		"relocation of a number":   func(im *Image) { im.Relocs = []uint32{0, headerSize} },
		"relocation unaligned":     func(im *Image) { im.Relocs = []uint32{0, headerSize + 9} },
		"relocation in the header": func(im *Image) { im.Relocs = []uint32{0, 8} },
		"relocation of flags":      func(im *Image) { im.Relocs = []uint32{0, headerSize + 56} },
		"pointer outside":          func(im *Image) { le.PutUint64(step(*im, 0)[16:], uint64(len(im.Bytes))) },
		"unknown call":             func(im *Image) { le.PutUint64(step(*im, 0), maxSyscall) },
		"copy":                     func(im *Image) { le.PutUint64(step(*im, 0), uint64(nrCopy)) },
		"slot too high":            func(im *Image) { le.PutUint64(step(*im, 2)[16:], allSlots) },
		"seventh argument a slot":  func(im *Image) { step(*im, 0)[56] = 0x40 },
		"pointer as a slot":        func(im *Image) { step(*im, 0)[56] = 2 },
		"result too high":          func(im *Image) { step(*im, 0)[57] = allSlots + 1 },
		"child too high":           func(im *Image) { step(*im, 0)[59] = allSlots + 1 },
		"unknown flag":             func(im *Image) { step(*im, 0)[58] = 0x80 },
		"padding":                  func(im *Image) { step(*im, 0)[64] = 1 },
		"store at a number":        func(im *Image) { le.PutUint64(step(*im, 1), uint64(NrStore)) },
		"switch to a number":       func(im *Image) { le.PutUint64(step(*im, 1), uint64(NrSwitch)) },
	} {
		im := sample().Image()
		spoil(&im)
		if err := im.Validate(); !errors.Is(err, errImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParkedPlanMustLeaveRoom(t *testing.T) {
	r, err := NewRegion(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := NewPlan()
	p.Bytes(make([]byte, secondOff))
	p.ParkStep()
	if err := r.Get().LoadParked(p.Image()); !errors.Is(err, errImage) {
		t.Error(err)
	}
}

// FuzzImage loads whatever passes Validate between two canaries.
func FuzzImage(f *testing.F) {
	pack := func(im Image) (b []byte) {
		for _, r := range im.Relocs {
			b = binary.LittleEndian.AppendUint32(b, r)
		}
		return b
	}
	for _, p := range []*Plan{NewPlan(), sample(), shell("true")} {
		im := p.Image()
		f.Add(im.Bytes, pack(im))
	}
	f.Add(make([]byte, headerSize+stepSize), []byte{0, 0, 0, 0})
	r, err := NewRegion(3)
	if err != nil {
		f.Fatal(err)
	}
	below, s, above := r.slab(0, r.base()), r.slab(1, r.base()+arenaSize), r.slab(2, r.base()+2*arenaSize)
	f.Fuzz(func(t *testing.T, b, relocs []byte) {
		im := Image{Bytes: b}
		for ; len(relocs) >= 4; relocs = relocs[4:] {
			im.Relocs = append(im.Relocs, binary.LittleEndian.Uint32(relocs))
		}
		valid := im.Validate() == nil
		_, err := s.LoadSecond(im)
		if valid && len(b) <= arenaSize-secondOff && err != nil || !valid && err == nil {
			t.Fatalf("valid %v, load %v", valid, err)
		}
		if err == nil {
			at := s.addr + secondOff
			for _, off := range im.Relocs {
				if v := binary.LittleEndian.Uint64(s.mem[secondOff+int(off):]); v < at || v >= at+uint64(len(b)) {
					t.Fatalf("pointer at %d leaves the image", off)
				}
			}
		}
		if below.mem[arenaSize-1] != 0 || above.mem[0] != 0 || s.mem[secondOff-1] != 0 {
			t.Fatal("wrote outside")
		}
	})
}
