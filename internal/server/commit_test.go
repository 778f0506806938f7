package server

import (
	"strings"
	"testing"
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
