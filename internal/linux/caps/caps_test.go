package caps

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNamesStandAtTheirNumbers(t *testing.T) {
	for name, n := range map[string]int{"CAP_CHOWN": unix.CAP_CHOWN, "CAP_NET_RAW": unix.CAP_NET_RAW, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
		"CAP_MKNOD": unix.CAP_MKNOD, "CAP_SETFCAP": unix.CAP_SETFCAP, "CAP_SYSLOG": unix.CAP_SYSLOG, "CAP_CHECKPOINT_RESTORE": unix.CAP_CHECKPOINT_RESTORE} {
		s, err := Of([]string{name})
		if err != nil || s != 1<<n {
			t.Errorf("%s is %x, %v", name, s, err)
		}
		if got := s.Names(); !slices.Equal(got, []string{name}) {
			t.Error(got)
		}
	}
	if _, err := Of([]string{"CAP_NOPE"}); err == nil {
		t.Error("unknown name accepted")
	}
	if len(names) != unix.CAP_LAST_CAP+1 {
		t.Errorf("%d names, %d capabilities", len(names), unix.CAP_LAST_CAP+1)
	}
}

func TestDataAgreesWithTheKernel(t *testing.T) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&hdr, &d[0]); err != nil {
		t.Fatal(err)
	}
	low := func(f func(unix.CapUserData) uint32) Set { return Set(f(d[0])) | Set(f(d[1]))<<32 }
	got := Data(low(func(u unix.CapUserData) uint32 { return u.Effective }), low(func(u unix.CapUserData) uint32 { return u.Permitted }), low(func(u unix.CapUserData) uint32 { return u.Inheritable }))
	var want []byte
	for _, u := range d {
		for _, v := range []uint32{u.Effective, u.Permitted, u.Inheritable} {
			want = binary.LittleEndian.AppendUint32(want, v)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}
