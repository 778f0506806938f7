package tare

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestSecurityTable: the tests that docs/security-tests.md names exist, and no
// row is missing.
func TestSecurityTable(t *testing.T) {
	table, err := os.ReadFile("docs/security-tests.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	rows := map[int]bool{}
	name := regexp.MustCompile(`\b(Test|Fuzz|test)[A-Z]\w*`)
	for line := range strings.Lines(string(table)) {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			continue
		}
		for _, n := range name.FindAllString(strings.Join(cells[3:6], " "), -1) {
			if !tests[n] {
				t.Errorf("row %s: there is no %s", cells[1], n)
			}
		}
		if row, err := strconv.Atoi(strings.TrimSpace(cells[1])); err == nil { // the others are of a rule
			rows[row] = true
		}
	}
	for n := 1; n <= 79; n++ {
		if (n <= 27 || n >= 71) && !rows[n] {
			t.Errorf("no row %d", n)
		}
	}
}

// testNames are the functions of all test files.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (\w+)\(`)
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, "_test.go") {
			return err
		}
		b, err := os.ReadFile(p)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
