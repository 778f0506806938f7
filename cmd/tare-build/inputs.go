package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
)

// inputs gives the solver the context and the Dockerfile.
func (o *request) inputs(s *bkclient.SolveOpt) error {
	s.LocalMounts = map[string]fsutil.FS{}
	var dockerfile io.Reader // that is no file
	dir, name := "", o.File
	switch {
	case o.Context == "-" && o.File == "-":
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	case o.Context == "-":
		in := bufio.NewReaderSize(os.Stdin, 1024)
		head, err := in.Peek(512)
		if err != nil && err != io.EOF {
			return fmt.Errorf("failed to read the context from STDIN: %w", err)
		}
		if isArchive(head) {
			up := uploadprovider.New()
			s.FrontendAttrs["context"] = up.Add(io.NopCloser(in))
			s.Session = append(s.Session, up)
			break
		}
		if o.File != "" {
			return errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
		}
		dockerfile = in
		empty, err := o.temporary()
		if err != nil {
			return err
		}
		if err := mountLocal(s, "context", empty); err != nil {
			return err
		}
	case isRemote(o.Context):
		s.FrontendAttrs["context"] = o.Context
	default:
		if info, err := os.Stat(o.Context); err != nil || !info.IsDir() {
			return fmt.Errorf("unable to prepare context: path %q not found", o.Context)
		}
		if err := mountLocal(s, "context", o.Context); err != nil {
			return err
		}
		if abs, err := filepath.Abs(o.Context); err == nil {
			s.SharedKey = filepath.Base(abs)
		}
		dir, name = o.Context, "Dockerfile"
		if o.File != "" {
			dir, name = filepath.Split(o.File)
			dir = filepath.Clean(dir)
		}
	}
	if o.File == "-" {
		dockerfile = os.Stdin
	}
	if dockerfile != nil {
		var err error
		if dir, err = o.temporary(); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dir, "Dockerfile"), dockerfile); err != nil {
			return err
		}
		name = "Dockerfile"
	}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("failed to read dockerfile: open %s: no such file or directory", filepath.Join(dir, name))
		}
		if err := mountLocal(s, "dockerfile", dir); err != nil {
			return err
		}
	}
	if name != "" {
		s.FrontendAttrs["filename"] = name
	}
	return o.named(s)
}

// named adds further contexts, by their names.
func (o *request) named(s *bkclient.SolveOpt) error {
	for _, c := range o.Contexts {
		name, where, ok := strings.Cut(c, "=")
		if !ok || name == "" || where == "" {
			return fmt.Errorf("invalid context value: %s, expected key=value", c)
		}
		if isRemote(where) || strings.HasPrefix(where, "docker-image://") || strings.HasPrefix(where, "oci-layout://") || strings.HasPrefix(where, "target:") {
			s.FrontendAttrs["context:"+name] = where
			continue
		}
		if info, err := os.Stat(where); err != nil || !info.IsDir() {
			return fmt.Errorf("failed to get build context %s: path %q is not a directory", name, where)
		}
		if err := mountLocal(s, name, where); err != nil {
			return err
		}
		s.FrontendAttrs["context:"+name] = "local:" + name
	}
	return nil
}

func mountLocal(s *bkclient.SolveOpt, name, dir string) error {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	s.LocalMounts[name] = fs
	return nil
}

// temporary makes a directory that goes at the end.
func (o *request) temporary() (string, error) {
	dir, err := os.MkdirTemp("", "tare-build-")
	if err == nil {
		o.made = append(o.made, dir)
	}
	return dir, err
}

// clean removes what was made for this build.
func (o *request) clean() error {
	var errs []error
	for _, dir := range o.made {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

func writeFile(name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// isRemote reports whether the engine fetches a context: by http, https or git.
func isRemote(s string) bool {
	for _, p := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isArchive recognizes tar, plain or packed.
func isArchive(head []byte) bool {
	for _, magic := range [][]byte{{0x1f, 0x8b}, {0x28, 0xb5, 0x2f, 0xfd}, {0xfd, '7', 'z', 'X', 'Z'}, []byte("BZh")} {
		if bytes.HasPrefix(head, magic) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}
