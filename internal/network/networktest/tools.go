package networktest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Shell runs nft, iptables or ip in the host's namespace.
func Shell(t testing.TB, line string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", line).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// NFT returns what nft says in the host's namespace.
func NFT(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %v: %v: %s", args, err, out)
	}
	return string(out)
}

// AllRules lists the host's rules; chains, sets and the elements of each in order of
// their text.
func AllRules(t testing.TB) string {
	t.Helper()
	var parts []string
	for part := range strings.SplitSeq(NFT(t, "list", "ruleset"), "\n\t}\n") {
		head, elements, is := strings.Cut(part, "elements = {")
		if is {
			list := strings.FieldsFunc(elements, func(r rune) bool { return r == ',' || r == '}' })
			for i := range list {
				list[i] = strings.TrimSpace(list[i])
			}
			slices.Sort(list)
			part = head + strings.Join(list, ", ")
		}
		parts = append(parts, strings.Trim(part, "}\n"))
	}
	slices.Sort(parts)
	return strings.Join(parts, "\n")
}

// Eventually waits for a condition that the kernel or a service fulfils in the
// background.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Minute { // emulated machines are slow
			t.Fatalf("never: %s", what)
		}
	}
}
