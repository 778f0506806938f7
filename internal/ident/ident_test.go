package ident

import "testing"

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := New()
		if !Valid(id) || decimal(Short(id)) || seen[id] {
			t.Fatal(id)
		}
		seen[id] = true
	}
}

func TestValid(t *testing.T) {
	for s, want := range map[string]bool{"": false, "abc": false, New(): true, New()[:63] + "G": false, New() + "0": false} {
		if Valid(s) != want {
			t.Errorf("Valid(%q) = %v", s, !want)
		}
	}
	if !ValidPrefix("0af") || ValidPrefix("xyz") || ValidPrefix("ABC") {
		t.Error("ValidPrefix")
	}
}
