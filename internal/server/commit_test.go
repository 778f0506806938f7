package server

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCommitAndImportParameters: what the engine gets to see.
func TestCommitAndImportParameters(t *testing.T) {
	for _, tt := range []struct{ target, contentType, body, want string }{
		{"/commit?container=c1&repo=r&tag=t&comment=m&author=a&changes=CMD+x&changes=ENV+a=b&pause=0", "", "",
			`commit repo=r tag=t comment=m author=a changes=["CMD x" "ENV a=b"] pause=false config=false`},
		{"/commit?container=c1", "application/json", "null", `commit repo= tag= comment= author= changes=[] pause=true config=false`},
		{"/commit?container=c1&pause=1", "application/json", `{"Cmd":["x"]}`, `commit repo= tag= comment= author= changes=[] pause=true config=true`},
		{"/images/create?fromSrc=-&repo=r&tag=t&message=m&changes=CMD+x&platform=linux/arm64", "application/x-tar", "tar",
			`import - tar repo=r tag=t message=m changes=["CMD x"] platform=&{arm64 linux  [] }`},
		{"/images/create?fromSrc=http://x/y", "", "", `import http://x/y  repo= tag= message= changes=[] platform=<nil>`},
	} {
		f := &fake{}
		res, body := do(t, unixClient(t, newServer(t, f)), "POST", tt.target, tt.contentType, tt.body)
		if res.StatusCode >= 300 || len(f.calls) == 0 || f.calls[0] != tt.want {
			t.Errorf("%s: %d %s: %q, want %q", tt.target, res.StatusCode, body, f.calls, tt.want)
		}
	}
}

// TestArchiveRoutes: what reaches the engine, and the header that says what a file is.
func TestArchiveRoutes(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	const header = "eyJuYW1lIjoiL2EgYiIsInNpemUiOjMsIm1vZGUiOjAsIm10aW1lIjoiMDAwMS0wMS0wMVQwMDowMDowMFoiLCJsaW5rVGFyZ2V0IjoiIn0="
	for _, method := range []string{"HEAD", "GET"} {
		res, _ := do(t, c, method, "/containers/c1/archive?path=/a%20b", "", "")
		if got := res.Header.Get("X-Docker-Container-Path-Stat"); got != header {
			t.Errorf("%s: %s", method, got)
		}
	}
	do(t, c, "PUT", "/containers/c1/archive?path=/a%20b&noOverwriteDirNonDir=1&copyUIDGID=false", "application/x-tar", "tar")
	do(t, c, "PUT", "/v1.24/containers/c1/archive?path=/a&copyUIDGID=true", "application/x-tar", "tar")
	want := []string{"path /a b c1", "path /a b c1", "extract c1 /a b tar true false", "extract c1 /a tar false true"}
	if diff := cmp.Diff(want, f.calls); diff != "" {
		t.Error(diff)
	}
}

// TestBrokenArchivesAreCut: a client must not take half an archive for a whole one.
func TestBrokenArchivesAreCut(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{panics: true}))
	res, err := c.Get("http://d/containers/c1/export")
	if err == nil {
		defer res.Body.Close()
		var b strings.Builder
		buf := make([]byte, 100)
		for err == nil {
			var n int
			n, err = res.Body.Read(buf)
			b.Write(buf[:n])
		}
		if err.Error() == "EOF" {
			t.Errorf("whole: %q", b.String())
		}
	}
}
