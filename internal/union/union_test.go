package union

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseBranches(t *testing.T) {
	for in, want := range map[string]string{
		"/rw=rw:/opt/a=ro+wh:/base=ro":  "/rw=rw:/opt/a=ro+wh:/base=ro",
		"/a:/b":                         "/a=rw:/b=ro",
		"/a/../b//c/=rr+wh:/d=rw+nolwh": "/b/c=rr+wh:/d=rw+nolwh",
		"/a=b=ro":                       "/a=b=ro",
	} {
		list, err := ParseBranches(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if got := Format(list); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestBranchErrorsNameTheBranch: whoever wrote many branches learns which is
// wrong, and how.
func TestBranchErrorsNameTheBranch(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "no branches given",
		"/a=rw:=ro":           `branch "=ro": the directory is missing`,
		"/a=rw::/b":           `branch "": the directory is missing`,
		"/a=rw:rel=ro":        `branch "rel=ro": the directory must be an absolute path`,
		"/a=wr":               `branch /a: unknown permission "wr"`,
		"/a=rw:/b=":           `branch /b: unknown permission ""`,
		"/a=rw+wh":            "branch /a: attribute +wh is for ro and rr",
		"/a=rw:/b=ro+nolwh":   "branch /b: attribute +nolwh is for rw",
		"/a=ro+wh+wh":         "branch /a: attribute +wh is given twice",
		"/a=ro+":              `branch /a: unknown attribute ""`,
		"/a=rw:/b:/a/":        "branch /a: it is a branch of this union already",
		"/a=rw:/a/b=ro":       "branch /a/b: it lies inside branch /a",
		"/a/b=rw:/c:/a=ro":    "branch /a: branch /a/b lies inside it",
		"/a=rw:/=ro":          "branch /: branch /a lies inside it",
		"/a,b=rw":             "cannot be a branch",
		"/a" + "\n" + "b=ro":  "cannot be a branch",
		"/ok=rw:/a\x00=ro+wh": "cannot be a branch",
	} {
		if _, err := ParseBranches(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

func TestAtMost1023Branches(t *testing.T) {
	var parts []string
	for i := range MaxBranches {
		parts = append(parts, fmt.Sprintf("/b%d", i))
	}
	if list, err := ParseBranches(strings.Join(parts, ":")); err != nil || len(list) != MaxBranches {
		t.Fatalf("%d branches: %v", len(list), err)
	}
	_, err := ParseBranches(strings.Join(append(parts, "/one/more"), ":"))
	if err == nil || !strings.Contains(err.Error(), "branch /one/more: a union has at most 1023 branches") {
		t.Fatal(err)
	}
}

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig("br:/rw=rw:/base=ro,create=mfsrr:1000:5,cpup=bu,udba=none,coo=leaf,diropq=a,sum,nosuid,volatile")
	if err != nil {
		t.Fatal(err)
	}
	o := c.Options
	if o.Create.Policy != MFSRR || o.Create.Low != 1000 || o.Create.Every.Seconds() != 5 || o.CopyUp != BU || o.Revalidate ||
		o.CopyOnOpen != "leaf" || !o.AlwaysOpaque || !o.Sum || !o.Flags.NoSuid || !o.Volatile {
		t.Errorf("%+v", o)
	}
	for in, want := range map[string]string{
		"nosuid":                   "no branches given",
		"br:/a,br:/b":              "branches are given twice",
		"br:/a,create=mfsrr":       "the low-water mark in bytes is missing",
		"br:/a,create=mfs:x":       `"x" is no number of seconds`,
		"br:/a,create=tdp:1":       `"1" is too much`,
		"br:/a,create=best":        `unknown policy "best"`,
		"br:/a,udba=inotify":       `option "udba=inotify": branches are not watched`,
		"br:/a,udba=notify":        `option "udba=notify": branches are not watched; with udba=reval a change is seen at the next lookup`,
		"br:/a,udba=what":          `option "udba=what": unknown value "what"`,
		"br:/a,fast":               `unknown option "fast"`,
		"br:/a,sum=1":              `unknown option "sum=1"`,
		"br:/a,shwh":               "only by a union that is mounted ro",
		"br:/a,":                   `unknown option ""`,
		"br:/a,create=pmfsrr:1:2:": `"" is too much`,
	} {
		if _, err := ParseConfig(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}

// FuzzConfig: what is accepted can be written and read again, to the same.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{"br:/rw=rw:/opt/a=ro+wh:/base=ro", "br=/a:/b=rr+wh,create=mfsrr:1:2", "dirs=/a=b=rw+nolwh,ro,shwh", "br:/a/../b:/b", "br:::,==+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseConfig(s)
		if err != nil {
			return
		}
		again, err := ParseBranches(Format(c.Branches))
		if err != nil {
			t.Fatalf("%q: %v", Format(c.Branches), err)
		}
		if Format(again) != Format(c.Branches) {
			t.Fatalf("%q became %q", Format(c.Branches), Format(again))
		}
	})
}
