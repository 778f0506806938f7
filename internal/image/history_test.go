package image

import "testing"

func TestReferencesMatchWithAndWithoutTheirDefaults(t *testing.T) {
	for _, tt := range []struct {
		pattern, ref string
		want         bool
	}{
		{"busybox", "busybox:1", true},
		{"busybox:1", "busybox:1", true},
		{"busy*", "busybox:1", true},
		{"*/*", "busybox:1", false},
		{"docker.io/library/busybox", "busybox:1", true},
		{"docker.io/library/busybox:*", "busybox:1", true},
		{"docker.io/library/busybox:2", "busybox:1", false},
		{"docker.io/a/b", "a/b:1", true},
		{"a/*", "a/b:1", true},
		{"*5000/*", "host:5000/a:1", true},
		{"host:5000/a", "host:5000/a:1", true},
		{"[", "busybox:1", false},
	} {
		if got := MatchReference(tt.pattern, tt.ref); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.pattern, tt.ref, got)
		}
	}
}
