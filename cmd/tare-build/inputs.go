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

// dockerfile is where a Dockerfile is: in a stream, or in a directory of this machine,
// or, with neither, in a context that the engine reads.
type dockerfile struct {
	stream io.Reader
	dir    string
	name   string // "": Dockerfile
}

// inputs gives the solver the context and the Dockerfile.
func (o *request) inputs(s *bkclient.SolveOpt) (err error) {
	s.LocalMounts = map[string]fsutil.FS{}
	d := dockerfile{name: o.File}
	switch {
	case o.Context == "-":
		d, err = o.contextFromInput(s)
	case isRemote(o.Context):
		s.FrontendAttrs["context"] = o.Context
	default:
		d, err = o.contextDir(s)
	}
	if err != nil {
		return err
	}
	if o.File == "-" {
		d.stream = os.Stdin
	}
	if err := o.dockerfile(s, d); err != nil {
		return err
	}
	return o.named(s)
}

// contextFromInput reads the context, an archive, or only the Dockerfile from standard
// input.
func (o *request) contextFromInput(s *bkclient.SolveOpt) (dockerfile, error) {
	if o.File == "-" {
		return dockerfile{}, errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	}
	in := bufio.NewReaderSize(os.Stdin, 1024)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return dockerfile{}, fmt.Errorf("failed to read the context from STDIN: %w", err)
	}
	if isArchive(head) {
		up := uploadprovider.New()
		s.FrontendAttrs["context"] = up.Add(io.NopCloser(in))
		s.Session = append(s.Session, up)
		return dockerfile{name: o.File}, nil
	}
	if o.File != "" {
		return dockerfile{}, errors.New("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
	}
	empty, err := o.temporary()
	if err != nil {
		return dockerfile{}, err
	}
	return dockerfile{stream: in}, mountLocal(s, "context", empty)
}

// contextDir makes a directory of this machine the context.
func (o *request) contextDir(s *bkclient.SolveOpt) (dockerfile, error) {
	if info, err := os.Stat(o.Context); err != nil || !info.IsDir() {
		return dockerfile{}, fmt.Errorf("unable to prepare context: path %q not found", o.Context)
	}
	if abs, err := filepath.Abs(o.Context); err == nil {
		s.SharedKey = filepath.Base(abs)
	}
	d := dockerfile{dir: o.Context, name: "Dockerfile"}
	if o.File != "" {
		d.dir, d.name = filepath.Split(o.File)
		d.dir = filepath.Clean(d.dir)
	}
	return d, mountLocal(s, "context", o.Context)
}

// dockerfile gives the solver the Dockerfile.
func (o *request) dockerfile(s *bkclient.SolveOpt, d dockerfile) (err error) {
	if d.stream != nil {
		d.name = "Dockerfile"
		if d.dir, err = o.temporary(); err != nil {
			return err
		}
		if err := writeFile(filepath.Join(d.dir, d.name), d.stream); err != nil {
			return err
		}
	}
	if d.dir != "" {
		o.where = filepath.Join(d.dir, d.name)
		if _, err := os.Stat(o.where); err != nil {
			return fmt.Errorf("failed to read dockerfile: open %s: no such file or directory", o.where)
		}
		if err := mountLocal(s, "dockerfile", d.dir); err != nil {
			return err
		}
	}
	if d.name != "" {
		s.FrontendAttrs["filename"] = d.name
	}
	return nil
}

// named adds further contexts, by their names.
func (o *request) named(s *bkclient.SolveOpt) error {
	for _, c := range o.Contexts {
		name, where, ok := strings.Cut(c, "=")
		if !ok || name == "" || where == "" {
			return fmt.Errorf("invalid context value: %s, expected key=value", c)
		}
		if isRemote(where) || strings.HasPrefix(where, "docker-image://") || strings.HasPrefix(where, "target:") {
			s.FrontendAttrs["context:"+name] = where
			continue
		}
		if strings.HasPrefix(where, layoutPrefix) {
			if err := layout(s, name, where); err != nil {
				return err
			}
			continue
		}
		if info, err := os.Stat(where); err != nil || !info.IsDir() {
			return fmt.Errorf("failed to get build context %s: path %q is not a directory", name, where)
		}
		local := name
		if name == "context" || name == "dockerfile" { // there are others of these names
			local = "_" + name
		}
		if err := mountLocal(s, local, where); err != nil {
			return err
		}
		s.FrontendAttrs["context:"+name] = "local:" + local
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
	return isTar(head)
}

// isTar recognizes tar that is not packed.
func isTar(head []byte) bool { return len(head) > 262 && string(head[257:262]) == "ustar" }
