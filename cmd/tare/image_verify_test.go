package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/tare-engine/tare/api"
)

func TestVerifyWords(t *testing.T) {
	for _, c := range []struct {
		m    api.ImageVerifyMessage
		want string
	}{
		{api.ImageVerifyMessage{Damage: &api.ImageDamage{Image: "sha256:0123456789abcdef", Kind: "blob", Digest: "sha256:1", Problem: "is missing"}},
			"0123456789ab: blob sha256:1 is missing\n"},
		{api.ImageVerifyMessage{Damage: &api.ImageDamage{Name: "a:1", Kind: "blob", Digest: "sha256:1", Problem: "is missing", Repaired: true}},
			"a:1: blob sha256:1 is missing (fetched again)\n"},
		{api.ImageVerifyMessage{Damage: &api.ImageDamage{Name: "a:1", Kind: "layer", Digest: "sha256:1", Path: "b\x1b[2J", Problem: "is missing", Repaired: true}},
			"a:1: layer sha256:1: b\\x1b[2J is missing (unpacked again)\n"},
		{api.ImageVerifyMessage{Damage: &api.ImageDamage{Name: "a:1", Kind: "blob", Digest: "sha256:1", Problem: "is missing", Unrepaired: "no network"}},
			"a:1: blob sha256:1 is missing (not repaired: no network)\n"},
		{api.ImageVerifyMessage{Image: &api.ImageVerified{ID: "sha256:0123456789abcdef", Blobs: 3, Layers: 1}}, "0123456789ab: whole (blobs: 3, layers: 1)\n"},
		{api.ImageVerifyMessage{Image: &api.ImageVerified{Names: []string{"a:1", "b:1"}, Damaged: 2, Repaired: 2}}, "a:1, b:1: repaired (damaged: 2)\n"},
		{api.ImageVerifyMessage{Image: &api.ImageVerified{Names: []string{"a:1"}, Damaged: 2, Repaired: 1}}, "a:1: damaged (damaged: 2, repaired: 1)\n"},
	} {
		var out bytes.Buffer
		if err := (imageVerifyOptions{}).print(&out, c.m); err != nil || out.String() != c.want {
			t.Errorf("%q, %v, want %q", out.String(), err, c.want)
		}
	}
	if err := runImageVerify(context.Background(), nil, nil, imageVerifyOptions{format: "x"}, nil); err == nil {
		t.Error("any format is taken")
	}
}
