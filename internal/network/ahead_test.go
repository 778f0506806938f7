package network

import (
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/tare-engine/tare/api"
)

// TestEachPartOfARequestIsBoundOrNotPlain: a field of a request is given to an endpoint
// ahead by Bind, or keeps the request from having one.
func TestEachPartOfARequestIsBoundOrNotPlain(t *testing.T) {
	values := map[string]any{ // true: Bind does it
		"ContainerID": true, "Name": true, "Network": true, "IP": true, "IP6": true, "MAC": true, "Hostname": true, "Aliases": true, "Links": true,
		"Priority": true, "Limits": true, "ahead": true, // of Reserve's own request
		"LinkLocal": []netip.Addr{netip.IPv4Unspecified()}, "Sysctls": []Sysctl{{"x", "y"}}, "IfaceName": "wan", "Later": true,
	}
	bound := Request{IP: netip.IPv4Unspecified(), IP6: netip.IPv6Unspecified(), MAC: net.HardwareAddr{1}, Aliases: []string{"a"}, Links: []string{"a:b"},
		Priority: 1, Limits: api.NetworkLimits{RateIn: 1}}
	if !bound.Plain() {
		t.Error("what Bind gives an endpoint is not plain")
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Request]()) {
		value, ok := values[f.Name]
		if !ok {
			t.Errorf("%s: say whether Bind gives it to an endpoint ahead", f.Name)
		}
		if value == true && f.Name != "Later" {
			continue
		}
		var r Request
		reflect.ValueOf(&r).Elem().FieldByIndex(f.Index).Set(reflect.ValueOf(value))
		if r.Plain() {
			t.Errorf("a request with %s is plain", f.Name)
		}
	}
}
