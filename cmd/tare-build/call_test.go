package main

import (
	"strings"
	"testing"
)

func TestParseCall(t *testing.T) {
	for s, want := range map[string]call{
		"":                                   {},
		"build":                              {},
		"check":                              {method: "lint"},
		"lint,format=json":                   {method: "lint", json: true},
		"outline":                            {method: "outline"},
		"format=json,targets":                {method: "targets", json: true},
		"check,ignorestatus=1,format=text":   {method: "lint", ignoreStatus: true},
		"subrequests.describe,ignorestatus=": {},
	} {
		got, err := parseCall(s)
		if bad := strings.HasSuffix(s, "ignorestatus="); bad != (err != nil) || !bad && got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestNewerAnswersAreTheFrontendsText(t *testing.T) {
	for version, want := range map[string]string{"": "TARGET", "1.0.0": "TARGET", "1.0.1": "as text", "1.10": "as text", "0.9.9": "TARGET"} {
		var out strings.Builder
		c := call{method: "targets"}
		if err := c.print(&out, map[string]string{"version": version, "result.txt": "as text", "result.json": `{"targets":[{"name":"a"}]}`}, ""); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), want) {
			t.Errorf("%s: %q", version, out.String())
		}
	}
}
