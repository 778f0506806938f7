package main

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestCreateRequests compares the requests of many command lines with a
// golden file; the root tests compare them with docker's.
func TestCreateRequests(t *testing.T) {
	const golden = "testdata/create.golden"
	var got strings.Builder
	e := newFakeEngine(t)
	for _, line := range createLines {
		if r := tare(t, e.host, "", append([]string{"create"}, fields(line)...)...); r.code != 0 || r.out != "0123456789abcdef\n" {
			t.Fatalf("create %s: %+v", line, r)
		}
		body, err := json.Marshal(plainValues(e.lastCreate()))
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(line + "\n\t" + string(body) + "\n")
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// fields splits a line at blanks; an underscore stands for a blank.
func fields(line string) []string {
	list := strings.Fields(line)
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "c_1:3_rw", "c 1:3 rw")
	}
	return list
}

// plainValues leaves out what is empty, whichever way it is written: null, "",
// {} and an absent key are one to an engine.
func plainValues(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, v := range m {
		v = plainValues(v)
		if v == nil || reflect.ValueOf(v).IsZero() {
			continue
		}
		if r := reflect.ValueOf(v); (r.Kind() == reflect.Map || r.Kind() == reflect.Slice) && r.Len() == 0 {
			if k != "MaskedPaths" && k != "ReadonlyPaths" && !strings.Contains(k, "/") && k != "EndpointsConfig" && k != "default" {
				continue
			}
		}
		out[k] = v
	}
	return out
}
