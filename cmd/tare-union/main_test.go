package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestWrongUse(t *testing.T) {
	for line, want := range map[string]string{
		"":                     "no command given",
		"mont":                 `unknown command "mont"`,
		"ls":                   "ls takes a mount point",
		"umount a b":           "umount takes a mount point",
		"add /mnt":             "add takes a mount point and a branch",
		"mount /mnt":           "mount takes -o OPTIONS and a mount point",
		"mount -o br:/a /m /n": "mount takes -o OPTIONS and a mount point",
	} {
		err := run(append([]string{"tare-union"}, strings.Fields(line)...), &bytes.Buffer{})
		if u, ok := errors.AsType[usageError](err); !ok || !strings.Contains(string(u), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	if err := run([]string{"/sbin/mount.fuse.tare-union", "none"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "SOURCE MOUNTPOINT") {
		t.Error(err)
	}
	var out bytes.Buffer
	if err := run([]string{"tare-union", "help"}, &out); err != nil || !strings.Contains(out.String(), "prepend MOUNTPOINT DIR[=PERM]") {
		t.Errorf("%s (%v)", &out, err)
	}
}
