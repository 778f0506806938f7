// Package hello holds the embedded image tare/hello: one static program that
// prints what it sees of its isolation. It shows that an engine works without
// a registry or a file to load.
package hello

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"time"
)

// Name is the repository of the image; its tag is latest.
const Name = "tare/hello"

// The pattern takes README and tare-hello, and matches before the build has put
// the program there as well.
//
//go:embed [Rt]*
var files embed.FS

// Archive returns the image as `docker save` would write it, the same bytes
// for the same program.
func Archive() (io.Reader, error) {
	program, err := files.ReadFile("tare-hello")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("this engine was built without the program of image tare/hello: run make build")
	}
	if err != nil {
		return nil, err
	}
	layer, err := layerOf(program)
	if err != nil {
		return nil, err
	}
	config, err := configOf(layer)
	if err != nil {
		return nil, err
	}
	return archiveOf(config, layer)
}

// made is the time of everything in the image.
var made = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func layerOf(program []byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	entries := []struct {
		name string
		mode int64
		data string
	}{
		{"etc/", 0755, ""},
		{"etc/passwd", 0644, "root:x:0:0:root:/:/tare-hello\nnobody:x:65534:65534:nobody:/:/tare-hello\n"},
		{"etc/group", 0644, "root:x:0:\nnogroup:x:65534:\n"},
		{"tmp/", 01777, ""},
		{"tare-hello", 0755, string(program)},
	}
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.data)), ModTime: made, Typeflag: tar.TypeReg}
		if e.data == "" {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func configOf(layer []byte) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"created":      made,
		"config":       map[string]any{"Entrypoint": []string{"/tare-hello"}},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(layer)}},
		"history":      []map[string]any{{"created": made, "created_by": "tare/hello"}},
	})
}

func archiveOf(config, layer []byte) (io.Reader, error) {
	id := sum(config)
	manifest, err := json.Marshal([]map[string]any{{
		"Config": id + ".json", "RepoTags": []string{Name + ":latest"}, "Layers": []string{sum(layer) + ".tar"},
	}})
	if err != nil {
		return nil, err
	}
	b := new(bytes.Buffer)
	w := tar.NewWriter(b)
	for _, f := range []struct {
		name string
		data []byte
	}{{sum(layer) + ".tar", layer}, {id + ".json", config}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0644, Size: int64(len(f.data)), ModTime: made, Typeflag: tar.TypeReg}); err != nil {
			return nil, fmt.Errorf("tare/hello: %w", err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b, w.Close()
}
