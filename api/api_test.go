package api

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestVersions(t *testing.T) {
	tests := []struct {
		text string
		want Version
		ok   bool
	}{
		{"1.44", Version{1, 44}, true}, {"1.44.2", Version{1, 44}, true}, {"999", Version{999, 0}, true},
		{"", Version{}, false}, {".", Version{}, false}, {"1..4", Version{1, 0}, true}, {"-1.2", Version{}, false}, {"99999999999.1", Version{}, false},
	}
	for _, tt := range tests {
		got, ok := ParseVersion(tt.text)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: %v %v", tt.text, got, ok)
		}
	}
	if !(Version{1, 9}).Less(Version{1, 10}) || (Version{1, 44}).Before(44) || !(Version{1, 43}).Before(44) || (Version{2, 0}).Before(44) {
		t.Error("order")
	}
}

func TestParseFilters(t *testing.T) {
	tests := []struct {
		text string
		want Filters
		err  string
	}{
		{"", nil, ""},
		{"null", nil, ""},
		{"{}", Filters{}, ""},
		{`{"label":{"a=b":true,"c":true}}`, Filters{"label": {"a=b": true, "c": true}}, ""},
		{`{"label":["a=b"],"name":["x","y"]}`, Filters{"label": {"a=b": true}, "name": {"x": true, "y": true}}, ""},
		{`{"label":["a"],"name":{"x":true}}`, nil, "invalid filter: "},
		{`{"label":"a"}`, nil, "invalid filter: "},
		{`[]`, nil, "invalid filter: "},
		{`{"label":`, nil, "invalid filter: unexpected end of JSON input"},
	}
	for _, tt := range tests {
		got, err := ParseFilters(tt.text)
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
			t.Errorf("%s: error %v, want %q", tt.text, err, tt.err)
			continue
		}
		if err == nil && !cmp.Equal(got, tt.want) {
			t.Errorf("%s: %s", tt.text, cmp.Diff(tt.want, got))
		}
	}
}

func TestTooManyFilterValues(t *testing.T) {
	f := Filters{}
	for i := range maxFilterValues + 1 {
		f.Add("id", strings.Repeat("x", i%50)+string(rune('a'+i/50)))
	}
	if _, err := ParseFilters(f.Encode()); err == nil {
		t.Error("taken")
	}
}

func TestFilterErrorsAreDockers(t *testing.T) {
	f := Filters{"dangling": {"maybe": true}, "two": {"1": true, "true": true}}
	if _, err := f.Bool("dangling", false); err == nil || err.Error() != "invalid filter 'dangling=[maybe]'" {
		t.Error(err)
	}
	if _, err := f.Bool("two", false); err == nil || err.Error() != "invalid filter 'two'" {
		t.Error(err)
	}
	if err := f.Validate([]string{"dangling"}); err == nil || err.Error() != "invalid filter 'two'" {
		t.Error(err)
	}
	if err := f.Validate([]string{"dangling", "two"}); err != nil {
		t.Error(err)
	}
	if b, err := f.Bool("absent", true); !b || err != nil {
		t.Error(b, err)
	}
}

func TestFilterMatches(t *testing.T) {
	f := Filters{"name": {"^/we.$": true, "db": true, "(": true}, "id": {"abc": true}, "label": {"a": true, "b=1": true}}
	tests := []struct {
		what string
		got  bool
		want bool
	}{
		{"regular expression", f.Match("name", "/web"), true},
		{"a part", f.Match("name", "/mydb2"), true},
		{"itself", f.Match("name", "("), true},
		{"neither", f.Match("name", "/x"), false},
		{"no condition", f.Match("other", "x"), true},
		{"prefix", f.Prefix("id", "abcdef"), true},
		{"no prefix", f.Prefix("id", "xabc"), false},
		{"exact", f.Exact("id", "abc"), true},
		{"not exact", f.Exact("id", "abcd"), false},
		{"only", f.Only("id", "abc"), true},
		{"one of several", f.Only("name", "db"), false},
		{"labels", f.KV("label", map[string]string{"a": "x", "b": "1"}), true},
		{"label's value", f.KV("label", map[string]string{"a": "x", "b": "2"}), false},
		{"label absent", f.KV("label", map[string]string{"b": "1"}), false},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s: %v", tt.what, tt.got)
		}
	}
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{"", "{}", "null", `{"a":{"b":true}}`, `{"a":["b","c"]}`, `{"a":{"b":false}}`, `{"a":null}`, `{"a":[null]}`, "[", `{"":[""]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFilters(s)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "invalid filter") {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		again, err := ParseFilters(got.Encode())
		if err != nil || len(got) != len(again) {
			t.Fatalf("%q: %v again %v (%v)", s, got, again, err)
		}
		for key := range got {
			_ = got.Match(key, "x")
			_, _ = got.Bool(key, true)
			_ = got.KV(key, nil)
		}
	})
}

func TestDetachKeys(t *testing.T) {
	tests := []struct {
		keys string
		want []byte
	}{
		{DefaultDetachKeys, []byte{16, 17}},
		{"a,ctrl-a", []byte{'a', 1}},
		{"ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", []byte{0, 27, 28, 29, 30, 31}},
		{"", nil},
	}
	for _, tt := range tests {
		if got, err := ParseDetachKeys(tt.keys); err != nil || !bytes.Equal(got, tt.want) {
			t.Errorf("%q: %v %v", tt.keys, got, err)
		}
	}
	for _, bad := range []string{"ctrl-1", "ctrl-A", "ctrl-", "ab", ",", "ctrl-ab", "é"} {
		if got, err := ParseDetachKeys(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestDemux(t *testing.T) {
	var in bytes.Buffer
	_, _ = NewFrameWriter(&in, Stdout).Write([]byte("one "))
	_, _ = NewFrameWriter(&in, Stderr).Write(bytes.Repeat([]byte("e"), 100000))
	_, _ = NewFrameWriter(&in, Stdout).Write(nil)
	_, _ = NewFrameWriter(&in, Stdout).Write([]byte("two"))
	frames := in.String()
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(frames), "bytewise": iotest.OneByteReader(strings.NewReader(frames)), "with EOF": iotest.DataErrReader(strings.NewReader(frames))} {
		var out, errs bytes.Buffer
		if err := Demux(r, &out, &errs, nil); err != nil || out.String() != "one two" || errs.Len() != 100000 {
			t.Errorf("%s: %q, %d bytes, %v", name, out.String(), errs.Len(), err)
		}
	}
	for n := 1; n < 12; n++ {
		if err := Demux(strings.NewReader(frames[:n]), io.Discard, io.Discard, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	var sys bytes.Buffer
	_, _ = NewFrameWriter(&sys, System).Write([]byte("broken"))
	if err := Demux(&sys, io.Discard, io.Discard, nil); err == nil || err.Error() != "error from daemon in stream: broken" {
		t.Error(err)
	}
	if err := Demux(strings.NewReader("\x03\x00\x00\x00\xff\xff\xff\xff"), nil, nil, nil); err == nil {
		t.Error("a system frame of 4 GB")
	}
	if err := Demux(strings.NewReader("\x07\x00\x00\x00\x00\x00\x00\x00"), nil, nil, nil); err == nil {
		t.Error("stream 7")
	}
}

func FuzzDemux(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x00\x00\x02hi\x02\x00\x00\x00\x00\x00\x00\x01!"))
	f.Add([]byte("\x03\x00\x00\x00\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		r := bytes.NewReader(b)
		err := Demux(r, &out, &out, func([]byte) error { return io.EOF })
		if out.Len() > len(b) {
			t.Fatalf("%d bytes of %d", out.Len(), len(b))
		}
		if err == nil && r.Len() != 0 {
			t.Fatalf("%d bytes left", r.Len())
		}
	})
}

func TestRunStatusesComeInOrder(t *testing.T) {
	var conn bytes.Buffer
	code := 0
	_ = WriteRunStatus(&conn, RunStatus{ID: "a", Warnings: []string{"w"}})
	_, _ = NewFrameWriter(&conn, Stderr).Write([]byte("oops"))
	_ = WriteRunStatus(&conn, RunStatus{ID: "a", ExitCode: &code})
	var errs bytes.Buffer
	var got []RunStatus
	if err := ReadRun(&conn, nil, &errs, func(st RunStatus) error { got = append(got, st); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []RunStatus{{ID: "a", Warnings: []string{"w"}}, {ID: "a", ExitCode: &code}}
	if !cmp.Equal(got, want) || errs.String() != "oops" {
		t.Errorf("%s, %q", cmp.Diff(want, got), errs.String())
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	tests := []struct {
		text string
		want time.Time
	}{
		{"10m", now.Add(-10 * time.Minute)},
		{"1700000000", time.Unix(1700000000, 0)},
		{"1700000000.5", time.Unix(1700000000, 5e8)},
		{"1700000000.000000001", time.Unix(1700000000, 1)},
		{"2026-01-02", time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)},
		{"2026-01-02T03:04", time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)},
		{"2026-01-02T03:04:05", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{"2026-01-02T03:04:05.6Z", time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)},
		{"2026-01-02T03:04:05+02:00", time.Date(2026, 1, 2, 1, 4, 5, 0, time.UTC)},
		{"0", time.Time{}},
	}
	for _, tt := range tests {
		if got, err := ParseTime(tt.text, now); err != nil || !got.Equal(tt.want) {
			t.Errorf("%s: %v (%v), want %v", tt.text, got, err, tt.want)
		}
	}
	for _, bad := range []string{"tomorrow", "1.x", "2026-13-01", "1700000000.-1"} {
		if got, err := ParseTime(bad, now); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
	at := time.Unix(1700000000, 42)
	if got, err := ParseUnix(FormatUnix(at)); err != nil || !got.Equal(at) {
		t.Errorf("%v %v", got, err)
	}
}
