package local

import (
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
)

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"type=none device=/a o=bind":  "",
		"type=tmpfs device=tmpfs":     "",
		"size=10m":                    "",
		"size=0":                      "",
		"foo=bar":                     `invalid option: "foo"`,
		"device=/a":                   `missing required option: "type"`,
		"type=none":                   `missing required option: "device"`,
		"o=bind":                      `missing required option: "device"`,
		"o=bind device=/a":            `missing required option: "type"`,
		"size=10q":                    `invalid size: "10q"`,
		"size=-1":                     `invalid size: "-1"`,
		"size=1k":                     "size 1k is too small: the least is 1MiB",
		"size=1m type=tmpfs device=t": `it does not go with "type"`,
		"type=none device=" + strings.Repeat("x", 5000): `invalid value of option "device"`,
	} {
		options := map[string]string{}
		for o := range strings.FieldsSeq(text) {
			name, value, _ := strings.Cut(o, "=")
			options[name] = value
		}
		err := Driver{}.Check(options)
		if want == "" && err != nil || want != "" && (!errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func TestMounts(t *testing.T) {
	for _, c := range []struct {
		options map[string]string
		want    bool
	}{
		{nil, false}, {map[string]string{"size": "0"}, false}, {map[string]string{"size": "2m"}, true}, {map[string]string{"type": "tmpfs", "device": "t"}, true},
	} {
		if got := (Driver{}).Mounts(t.TempDir(), c.options); got != c.want {
			t.Errorf("%v: %v", c.options, got)
		}
	}
}

func TestNamesOfServersBecomeAddresses(t *testing.T) {
	for _, c := range []struct{ fstype, options, want string }{
		{"nfs", "addr=localhost,rw", "addr=127.0.0.1,rw addr=::1,rw"},
		{"nfs", "addr=10.0.0.1,rw", "addr=10.0.0.1,rw"},
		{"tmpfs", "addr=localhost", "addr=localhost"},
	} {
		got, err := resolveAddress(t.Context(), c.fstype, c.options)
		if err != nil || !strings.Contains(" "+c.want+" ", " "+got+" ") {
			t.Errorf("%s %s: %q, %v", c.fstype, c.options, got, err)
		}
	}
}
