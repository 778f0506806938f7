package oci

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecordIsReadAsWritten(t *testing.T) {
	want := record{
		Version: 1, ID: "a", Bundle: "/b \"\\\n\x01é/日", Rootfs: "/r", Created: time.Unix(1700000000, 123456789).UTC(), Owner: 7,
		Cgroup: "x/y", Pid: 42, Ticks: 1 << 63, Boot: "b", Rdt: "/sys/fs/resctrl/a",
	}
	b, err := want.encode()
	if err != nil {
		t.Fatal(err)
	}
	var got record
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%s", d, b)
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"a", "a.b_c-d+1", "0"} {
		if err := checkID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", ".", "..", "a/b", "a b", "a\n", "é"} {
		if err := checkID(id); err == nil {
			t.Errorf("%q passes", id)
		}
	}
}
