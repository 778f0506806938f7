package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// archiveLimit bounds what an archive of a context may hold.
const archiveLimit = 10 << 20

func newContextExportCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "export CONTEXT [FILE|-]",
		Short: "Write a context to an archive, FILE or STDOUT",
		Args:  rangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			to := args[0] + ".dockercontext"
			if len(args) == 2 {
				to = args[1]
			}
			return c.exportContext(config, args[0], to)
		},
	}
}

func newContextImportCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "import CONTEXT FILE|-",
		Short: "Make a context of an archive",
		Args:  exactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			config, err := c.settings()
			if err != nil {
				return err
			}
			if err := config.freeContext(args[0]); err != nil {
				return err
			}
			in := c.in
			if args[1] != "-" {
				if in, err = os.Open(args[1]); err != nil {
					return err
				}
				defer in.Close()
			}
			m, files, err := readContext(in)
			if err != nil {
				return err
			}
			m.Name = args[0]
			if err := config.writeContext(m, files); err != nil {
				return err
			}
			return c.didContext("imported", args[0])
		},
	}
}

func (c *cli) exportContext(config *configFile, name, to string) error {
	m, err := config.context(name)
	if err != nil {
		return err
	}
	files, err := config.contextFiles(name)
	if err != nil {
		return err
	}
	if to == "-" {
		return writeContextArchive(c.out, m, files)
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(writeContextArchive(f, m, files), f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(c.err, "Written file %q\n", to)
	return nil
}

// writeContextArchive writes docker's archive of a context: meta.json, and the
// keys of its engine below tls/docker.
func writeContextArchive(out io.Writer, m *contextMeta, files map[string][]byte) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	file := func(name string, text []byte, mode int64) error {
		err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(text))})
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	dir := func(name string) error {
		return w.WriteHeader(&tar.Header{Name: name, Mode: 0o700, Typeflag: tar.TypeDir})
	}
	errs := []error{file("meta.json", text, 0o644), dir("tls")}
	if len(files) > 0 {
		errs = append(errs, dir("tls/docker"))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		errs = append(errs, file("tls/docker/"+name, files[name], 0o600))
	}
	return errors.Join(append(errs, w.Close())...)
}

// readContext reads such an archive.
func readContext(in io.Reader) (*contextMeta, map[string][]byte, error) {
	r := tar.NewReader(io.LimitReader(in, archiveLimit))
	var m *contextMeta
	files := map[string][]byte{}
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		dir, name := path.Split(path.Clean(h.Name))
		switch {
		case h.Typeflag != tar.TypeReg, strings.HasPrefix(name, "."):
			return nil, nil, fmt.Errorf("unexpected context file: %s", h.Name)
		case dir == "" && name == "meta.json":
			m = &contextMeta{}
			if err := json.Unmarshal(text, m); err != nil {
				return nil, nil, err
			}
		case dir == "tls/docker/":
			files[name] = text
		default:
			return nil, nil, fmt.Errorf("unexpected context file: %s", h.Name)
		}
	}
	if m == nil {
		return nil, nil, errors.New("invalid context: no metadata found")
	}
	return m, files, nil
}
