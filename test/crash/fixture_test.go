//go:build root && failpoint

package crash

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// rootfs returns a directory with busybox, made on first use.
func (b *box) rootfs() string {
	dir := b.path("rootfs")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir+"/bin", 0755); err != nil {
		b.t.Fatal(err)
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		b.t.Fatal("the tests need busybox-static: ", err)
	}
	if err := os.WriteFile(dir+"/bin/busybox", busybox, 0755); err != nil {
		b.t.Fatal(err)
	}
	for _, name := range []string{"sh", "sleep", "true", "echo", "cat"} {
		if err := os.Symlink("busybox", dir+"/bin/"+name); err != nil {
			b.t.Fatal(err)
		}
	}
	return dir
}

// archive returns an image archive of two layers, made on first use.
func (b *box) archive() string {
	path := b.path("image.tar")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	layer1, err := exec.Command("tar", "-C", b.rootfs(), "-c", "bin").Output()
	if err != nil {
		b.t.Fatal(err)
	}
	layer2 := tarOf(map[string][]byte{"etc/passwd": []byte("root:x:0:0::/:/bin/sh\n"), "data": bytes.Repeat([]byte("tare"), 1<<18)})
	config, _ := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/true"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digest(layer1), digest(layer2)}},
	})
	manifest, _ := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"crash/test:latest"}, "Layers": []string{"1.tar", "2.tar"}}})
	all := tarOf(map[string][]byte{"config.json": config, "1.tar": layer1, "2.tar": layer2, "manifest.json": manifest})
	if err := os.WriteFile(path, all, 0600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func tarOf(files map[string][]byte) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for name, data := range files {
		w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0644, Typeflag: tar.TypeReg})
		w.Write(data)
	}
	w.Close()
	return out.Bytes()
}
