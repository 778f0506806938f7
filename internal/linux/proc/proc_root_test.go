//go:build root

package proc

import (
	"fmt"
	"os"
	"testing"
)

func TestPrivateIsThisProcess(t *testing.T) {
	f, err := Private()
	if err != nil {
		t.Fatal(err)
	}
	to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d/self", f.Fd()))
	if err != nil || to != fmt.Sprint(os.Getpid()) {
		t.Fatal(to, err)
	}
}
