package external

import "testing"

func TestErrnosOfCAreWordedLikeGos(t *testing.T) {
	for said, want := range map[string]string{
		"executable file `x` not found in $PATH: No such file or directory":      "executable file `x` not found in $PATH: no such file or directory",
		"open executable: Permission denied":                                     "open executable: permission denied",
		"open executable: Operation not permitted":                               "open executable: Operation not permitted: permission denied",
		"exec: \"x\": executable file not found in $PATH":                        "exec: \"x\": executable file not found in $PATH",
		"No such file or directory is what a name says; mount: Invalid argument": "No such file or directory is what a name says; mount: Invalid argument",
	} {
		if got := likeGo(said); got != want {
			t.Errorf("%s: %s", said, got)
		}
	}
}
