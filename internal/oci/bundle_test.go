package oci

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseSpecRefusesOtherSystems(t *testing.T) {
	for _, section := range []string{"solaris", "windows", "vm", "zos", "freebsd"} {
		_, err := parseSpec([]byte(`{"ociVersion":"1.2.0","` + section + `":{}}`))
		if err == nil || !strings.Contains(err.Error(), `"`+section+`"`) {
			t.Errorf("%s: %v", section, err)
		}
	}
	s, err := parseSpec([]byte(`{"ociVersion":"1.2.0","hostname":"h","windows":null,"annotations":{"a":"b"},"linux":{"cgroupsPath":"/x"}}`))
	if err != nil || s.Hostname != "h" || s.Annotations["a"] != "b" || s.Linux.CgroupsPath != "/x" {
		t.Errorf("%+v, %v", s, err)
	}
}

// A section of the specification that comes to be for another system must not be
// read as if it were not there.
func TestOnLinuxKnowsAllSystems(t *testing.T) {
	for f := range reflect.TypeFor[specs.Spec]().Fields() {
		system := f.Tag.Get("platform")
		if system == "" || strings.Contains(system, "linux") {
			continue
		}
		b := []byte(`{"` + strings.Split(f.Tag.Get("json"), ",")[0] + `":{}}`)
		if !json.Valid(b) {
			t.Fatalf("%s", b)
		}
		if _, err := parseSpec(b); err == nil {
			t.Errorf("%s is taken", b)
		}
	}
}
