package mount

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	list := parse([]byte(`36 35 98:0 / / rw - overlay overlay rw,lowerdir=a
40 36 0:5 /x /a\040b/c rw,noatime master:1 - ext3 /dev/root rw
38 36 0:5 / /proc rw - proc proc rw
39 36 0:5 / /odd\134n\012 rw propagate_from:2 unbindable - tmpfs tmpfs rw
bad line
1 2 3
x 36 0:5 / /y rw - tmpfs tmpfs rw
41 36 0:5 / relative rw - tmpfs tmpfs rw
`))
	var got []string
	for _, e := range list {
		got = append(got, e.path+"="+e.fstype)
	}
	if want := "/=overlay|/proc=proc|/odd\\n\n=tmpfs|/a b/c=ext3"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 98:0 / /a\\040b rw - ext3 /dev/root rw\n")
	f.Add("1 1 1 1 /\\999\\04 - \n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range parse([]byte(text)) {
			if !strings.HasPrefix(e.path, "/") || e.fstype == "" {
				t.Errorf("%+v", e)
			}
		}
	})
}
