package ps

import "testing"

func TestColumns(t *testing.T) {
	for args, want := range map[string]int{"": 8, "-ef": 8, "aux": 11, "-eo pid,comm": 2, "-o pid=P": 1, "opid,ppid,args": 3} {
		if cols, err := columnsOf(args); err != nil || len(cols) != want {
			t.Errorf("%q: %d columns, %v", args, len(cols), err)
		}
	}
	for _, args := range []string{"-eo", "-o nope", "--forest", "-eo pid;rm"} {
		if _, err := columnsOf(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
