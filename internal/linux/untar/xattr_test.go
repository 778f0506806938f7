package untar

import "testing"

// TestAttributesThatSteerTheUnion: row 74 of docs/security-tests.md.
func TestAttributesThatSteerTheUnion(t *testing.T) {
	for name, want := range map[string]bool{
		"user.x": true, "security.capability": true, "system.posix_acl_access": true,
		"trusted.overlay.opaque": false, "trusted.overlay.redirect": false, "user.overlay.opaque": false, "user.fuseoverlayfs.opaque": false,
		"security.selinux": false, "security.apparmor": false, "security.ima": false, "security.evm": false, "system.x": false, "": false,
	} {
		if xattrAllowed(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
