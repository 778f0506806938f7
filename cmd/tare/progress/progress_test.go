package progress

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/jsonstream"
)

// screen is a terminal as far as a display uses one.
type screen struct {
	t          *testing.T
	rows, cols int
	gone       []string // what has left at the top
	lines      []string
	y          int
	writes     int
}

func newScreen(t *testing.T, rows, cols int) *screen {
	return &screen{t: t, rows: rows, cols: cols, lines: []string{""}}
}

func (s *screen) size() (rows, cols int) { return s.rows, s.cols }

var move = regexp.MustCompile(`^\x1b\[(\d+)([ABK])`)

func (s *screen) Write(b []byte) (int, error) {
	s.writes++
	x := 0
	for text := string(b); text != ""; {
		if m := move.FindStringSubmatch(text); m != nil {
			n, _ := strconv.Atoi(m[1])
			switch m[2] {
			case "A":
				if s.y -= n; s.y < 0 {
					s.t.Errorf("the cursor goes %d above the screen", -s.y)
					s.y = 0
				}
			case "B":
				if s.y += n; s.y >= len(s.lines) {
					s.t.Errorf("the cursor goes below what is there")
					s.y = len(s.lines) - 1
				}
			case "K":
				s.lines[s.y] = ""
			}
			text = text[len(m[0]):]
			continue
		}
		r := []rune(text)[0]
		text = text[len(string(r)):]
		switch r {
		case '\r':
			x = 0
		case '\n':
			x = 0
			if s.y++; s.y == len(s.lines) {
				s.lines = append(s.lines, "")
			}
			if len(s.lines) > s.rows {
				s.gone = append(s.gone, s.lines[0])
				s.lines, s.y = s.lines[1:], s.y-1
			}
		default:
			if r < ' ' {
				s.t.Errorf("control character %q", r)
			}
			if x++; x >= s.cols {
				s.t.Errorf("line %q fills the screen's width", s.lines[s.y])
			}
			s.lines[s.y] += string(r)
		}
	}
	return len(b), nil
}

// all is what was and is to be seen.
func (s *screen) all() []string { return append(append([]string{}, s.gone...), s.lines...) }

func report(id, status string, count ...int64) jsonstream.Message {
	m := jsonstream.Message{ID: id, Status: status, Progress: &jsonstream.Progress{}}
	if len(count) == 2 {
		m.Progress.Current, m.Progress.Total = count[0], count[1]
	}
	return m
}

func show(t *testing.T, d *Display, reports ...jsonstream.Message) {
	t.Helper()
	for _, m := range reports {
		if err := d.Show(m); err != nil {
			t.Fatal(err)
		}
	}
}

func see(t *testing.T, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRowsChangeInPlace(t *testing.T) {
	s := newScreen(t, 10, 60)
	d := New(s, s.size)
	show(t, d,
		jsonstream.Message{ID: "latest", Status: "Pulling from x"},
		report("aaa", "Pulling fs layer"), report("bbb", "Pulling fs layer"),
		report("aaa", "Downloading", 1e6, 2e6), report("bbb", "Waiting"))
	see(t, []string{"latest: Pulling from x", "aaa: Downloading [=============>             ]      1MB/2MB", "bbb: Waiting", ""}, s.all())
	show(t, d, report("aaa", "Pull complete"), jsonstream.Message{ID: "bbb", Status: "Pull complete"}, jsonstream.Message{Status: "Digest: d"})
	show(t, d, report("aaa", "of another image"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	see(t, []string{"latest: Pulling from x", "aaa: Pull complete", "bbb: Pull complete", "Digest: d", "aaa: of another image", ""}, s.all())
}

func TestMorePartsThanLines(t *testing.T) {
	s := newScreen(t, 5, 80)
	d := New(s, s.size)
	show(t, d, jsonstream.Message{Status: "before"})
	const n = 12
	for i := range n {
		show(t, d, report(fmt.Sprint(i), "Waiting"))
	}
	see(t, []string{"before", "0: Waiting", "1: Waiting", "2: Waiting", "3: Waiting", ""}, s.all())
	show(t, d, report("2", "Pull complete"))
	see(t, []string{"before", "2: Pull complete", "0: Waiting", "1: Waiting", "3: Waiting", "4: Waiting", ""}, s.all())
	show(t, d, report("9", "Pull complete")) // nobody sees it yet
	for i := range n - 1 {
		show(t, d, report(fmt.Sprint(i), "Pull complete"))
	}
	show(t, d, report("11", "Downloading", 1, 2))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, line := range s.all() {
		id, status, _ := strings.Cut(line, ": ")
		count[id]++
		if n, err := strconv.Atoi(id); err == nil && n < 11 && status != "Pull complete" {
			t.Errorf("the last that is to be seen of it: %s", line)
		}
	}
	for i := range n {
		if count[fmt.Sprint(i)] != 1 {
			t.Errorf("part %d is to be seen %d times: %q", i, count[fmt.Sprint(i)], s.all())
		}
	}
}

func TestPartsWithoutARowAreShownAtTheEnd(t *testing.T) {
	s := newScreen(t, 3, 80)
	d := New(s, s.size)
	for i := range 4 {
		show(t, d, report(fmt.Sprint(i), "Waiting"))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	see(t, []string{"0: Waiting", "1: Waiting", "2: Waiting", "3: Waiting", ""}, s.all())
}

func TestScreenBecomesSmaller(t *testing.T) {
	s := newScreen(t, 10, 80)
	d := New(s, s.size)
	for i := range 6 {
		show(t, d, report(fmt.Sprint(i), "Waiting"))
	}
	s.rows = 4 // as terminals do it: what is above leaves
	s.gone, s.lines, s.y = s.lines[:3], s.lines[3:], 3
	show(t, d, report("0", "Pull complete"), report("5", "Pull complete"))
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var last string
	for _, line := range s.all() {
		if strings.HasPrefix(line, "0:") {
			last = line
		}
	}
	if last != "0: Pull complete" {
		t.Errorf("got %q", s.all())
	}
}

func TestPlainLines(t *testing.T) {
	var b strings.Builder
	d := New(&b, nil)
	aux := []byte(`{}`)
	show(t, d,
		jsonstream.Message{ID: "latest", Status: "Pulling from x"}, report("aaa", "Pulling fs layer"),
		report("aaa", "Downloading", 1, 2), jsonstream.Message{ID: "aaa", Status: "Extracting", Progress: &jsonstream.Progress{Current: 1, Units: "s"}},
		report("aaa", "Pull complete"), jsonstream.Message{Aux: (*json.RawMessage)(&aux), Progress: &jsonstream.Progress{}},
		jsonstream.Message{Stream: "Loaded image: x\n"}, jsonstream.Message{Status: "a\nb\x1b[2J"}, jsonstream.Message{})
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "latest: Pulling from x\naaa: Pulling fs layer\naaa: Pull complete\nLoaded image: x\na\nb\\x1b[2J\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestOthersDoNotSteerTheTerminal(t *testing.T) {
	s := newScreen(t, 10, 200)
	d := New(s, s.size)
	show(t, d, report("a\x1b[2J\nb", "c\x1b]0;x\x07\n"), jsonstream.Message{Stream: "\x1b[A\n"}, jsonstream.Message{Status: "\u009b2J"},
		jsonstream.Message{ID: "y", Status: "z", Progress: &jsonstream.Progress{Current: 1, Units: "\x1b[A"}})
	if len(s.gone) > 0 || len(s.lines) != 5 {
		t.Errorf("got %q", s.all())
	}
}

func TestAReportIsOneWrite(t *testing.T) {
	s := newScreen(t, 4, 80)
	d := New(s, s.size)
	for i := range 8 {
		show(t, d, report(fmt.Sprint(i), "Pull complete"))
	}
	if s.writes != 8 {
		t.Errorf("%d writes for 8 reports", s.writes)
	}
}

func TestBars(t *testing.T) {
	for _, c := range []struct {
		p    jsonstream.Progress
		cols int
		want string
	}{
		{jsonstream.Progress{Current: 1e6}, 80, "     1MB"},
		{jsonstream.Progress{Current: 7, Units: "s"}, 80, "7 s"},
		{jsonstream.Progress{Current: 0, Total: 1000}, 35, "[>                   ]       0B/1kB"},
		{jsonstream.Progress{Current: 1000, Total: 1000}, 20, "     1kB/1kB"},
		{jsonstream.Progress{Current: 1000, Total: 1000}, 27, "[===========>]      1kB/1kB"},
		{jsonstream.Progress{Current: 3000, Total: 1000}, 27, "[===============>]      3kB"},
		{jsonstream.Progress{Current: -1, Total: 1000, HideCounts: true}, 14, "[>          ]"},
		{jsonstream.Progress{Current: 1, Total: 4, Units: "files"}, 200, "[============>                                      ]        1/4 files"},
	} {
		got := bar(&c.p, c.cols)
		if len(got) > c.cols && strings.HasPrefix(got, "[") {
			t.Errorf("%+v: %q is wider than %d", c.p, got, c.cols)
		}
		if got != c.want {
			t.Errorf("%+v in %d:\n got %q\nwant %q", c.p, c.cols, got, c.want)
		}
	}
}
