//go:build root

package script

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// badRequest is a line of testdata/requests:
//
//	METHOD PATH [Header: value]... BODY => STATUS MESSAGE
//
// The headers, in brackets, and the body may be missing; a body is JSON unless a
// header says otherwise. "..." in the message stands for anything.
// As methods there are also
//
//	CREATE {...}      POST /containers/create of busybox with these fields
//	HOST {...}        the same with these fields of HostConfig
//	RAW "..."         these bytes, in Go's quotes
//	CUT "..."         the same, and then the client's end of the connection is closed
//	SLOW "..."        RAW, to which the answer may take long
//
// <x*9> is a text nine times, in Go's escapes; $running and so on are ids of what furnish
// makes. The body @tar {"name":"content",...} is an archive, @gzip a compressed one,
// @NAME one of hostileArchives.
type badRequest struct {
	at, line string // where it stands, and what before the arrow
	want     string
	method   string
	bytes    []byte // what is sent, once named has been called
	cut      bool
}

func readRequests(t *testing.T) (all []badRequest) {
	t.Helper()
	files, err := filepath.Glob("testdata/requests/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	seen := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSuffix(line, "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			at := fmt.Sprintf("%s:%d", filepath.Base(file), n)
			request, want, ok := strings.Cut(line, " => ")
			if !ok || seen[request] != "" {
				t.Fatalf("%s: no answer, or the same as %s: %s", at, seen[request], line)
			}
			seen[request] = at
			all = append(all, badRequest{at: at, line: request, want: want})
		}
	}
	return all
}

// slow reports whether the client is waited for.
func (c badRequest) slow() bool { return strings.HasPrefix(c.line, "SLOW ") }

// matches reports whether an answer is the one that the line wants.
func (c badRequest) matches(got string) bool {
	parts := strings.Split(c.want, "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(got)
}

var repeated = regexp.MustCompile(`<([^<>]{1,40})\*(\d+)>`)

func expand(s string) string {
	return repeated.ReplaceAllStringFunc(s, func(m string) string {
		p := repeated.FindStringSubmatch(m)
		text, err := strconv.Unquote(`"` + strings.ReplaceAll(p[1], `"`, `\"`) + `"`)
		if err != nil {
			panic(m)
		}
		return repeat(text, p[2])
	})
}

func repeat(text, times string) string {
	n, err := strconv.Atoi(times)
	if err != nil {
		panic(err)
	}
	return strings.Repeat(text, n)
}

var headerOf = regexp.MustCompile(`^\[([A-Za-z-]+: ?[^\]]*)\] ?`)

// named is the request with ids for names, ready to be sent.
func (c badRequest) named(names *strings.Replacer) badRequest {
	method, rest, _ := strings.Cut(names.Replace(c.line), " ")
	c.want = names.Replace(c.want)
	switch method {
	case "RAW", "CUT", "SLOW":
		text, err := strconv.Unquote(repeated.ReplaceAllStringFunc(rest, func(m string) string {
			p := repeated.FindStringSubmatch(m)
			return repeat(p[1], p[2])
		}))
		if err != nil {
			panic(c.at + ": " + err.Error())
		}
		c.bytes, c.cut = []byte(text), method == "CUT"
		c.method = "GET"
		if strings.HasPrefix(text, "HEAD") {
			c.method = "HEAD"
		}
		return c
	case "CREATE":
		rest = "/containers/create " + join(`"Image":"busybox"`, rest)
		method = "POST"
	case "HOST":
		rest = `/containers/create {"Image":"busybox","HostConfig":` + rest + `}`
		method = "POST"
	}
	path, rest, _ := strings.Cut(rest, " ")
	headers, typed := "", false
	for m := headerOf.FindStringSubmatch(rest); m != nil; m = headerOf.FindStringSubmatch(rest) {
		headers += m[1] + "\r\n"
		typed = typed || strings.HasPrefix(strings.ToLower(m[1]), "content-type:")
		rest = rest[len(m[0]):]
	}
	body := bodyOf(rest)
	if !typed && strings.HasPrefix(rest, "@") {
		headers += "Content-Type: application/x-tar\r\n"
	} else if !typed && rest != "" {
		headers += "Content-Type: application/json\r\n"
	}
	if len(body) > 0 || method == "POST" || method == "PUT" {
		headers += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	c.method = method
	c.bytes = append([]byte(method+" "+expand(path)+" HTTP/1.1\r\nHost: engine\r\n"+headers+"\r\n"), body...)
	return c
}

// join adds a field to an object.
func join(field, object string) string {
	inner := strings.TrimSpace(strings.TrimPrefix(object, "{"))
	if inner == "}" {
		return "{" + field + "}"
	}
	return "{" + field + "," + inner
}

func bodyOf(s string) []byte {
	kind, rest, _ := strings.Cut(s, " ")
	switch {
	case kind == "@tar" || kind == "@gzip":
		var files map[string]string
		if err := json.Unmarshal([]byte(expand(rest)), &files); err != nil {
			panic(s + ": " + err.Error())
		}
		b := archiveOf(files)
		if kind == "@gzip" {
			b = pack(b)
		}
		return b
	case strings.HasPrefix(s, "@"):
		f := hostileArchives[strings.TrimPrefix(kind, "@")]
		if f == nil {
			panic(s)
		}
		return f()
	}
	return []byte(expand(s))
}

func pack(b []byte) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	w.Close()
	return packed.Bytes()
}

func archiveOf(files map[string]string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		put(w, tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(files[name]))}, files[name])
	}
	w.Close()
	return b.Bytes()
}

// entry is an archive of one entry that is no file.
func entry(h tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put(w, h, "")
	w.Close()
	return b.Bytes()
}

func put(w *tar.Writer, h tar.Header, content string) {
	h.Mode = 0o644
	if err := w.WriteHeader(&h); err != nil {
		panic(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		panic(err)
	}
}

// hostileArchives are bodies that are no sound archives, or ones that mean harm.
var hostileArchives = map[string]func() []byte{
	"cut":    func() []byte { return archiveOf(map[string]string{"a": strings.Repeat("x", 5000)})[:3000] },
	"header": func() []byte { return archiveOf(map[string]string{"a": "x"})[:300] },
	"sum":    func() []byte { b := archiveOf(map[string]string{"a": "x"}); b[150] ^= 1; return b },
	"random": func() []byte { return bytes.Repeat([]byte("no archive "), 200) },
	"zeros":  func() []byte { return make([]byte, 10240) },
	"badgzip": func() []byte {
		b := pack(archiveOf(map[string]string{"Dockerfile": "FROM busybox"}))
		return b[:len(b)-9]
	},
	"badsum": func() []byte {
		b := pack(archiveOf(map[string]string{"Dockerfile": "FROM busybox"}))
		b[len(b)-6] ^= 1
		return b
	},
	"fifo": func() []byte { return entry(tar.Header{Name: "manifest.json", Typeflag: tar.TypeFifo}) },
	"link": func() []byte {
		return entry(tar.Header{Name: "manifest.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"})
	},
	"dir": func() []byte { return entry(tar.Header{Name: "manifest.json/", Typeflag: tar.TypeDir}) },
	"linkdockerfile": func() []byte {
		return entry(tar.Header{Name: "Dockerfile", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"})
	},
	"dotdot":   func() []byte { return entry(tar.Header{Name: "../../x", Typeflag: tar.TypeReg}) },
	"hardlink": func() []byte { return entry(tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "nosuch"}) },
}
