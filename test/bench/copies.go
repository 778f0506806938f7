package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tare-engine/tare/test/fixture"
)

const (
	copyName  = "bench-copies"
	copyFiles = 10_000
	copyRoot  = 200 << 20 // bytes in the root that is exported
	copies    = 5
)

// copies times 10,000 small files into a container and out of it, and the export
// of a root of 200 MB, beside what tar does with the same files here.
func (b *bench) copies() error {
	dir := b.path("copies")
	if err := b.filesToCopy(dir); err != nil {
		return err
	}
	for _, e := range b.engines() {
		for _, name := range []string{copyName, copyName + "-in"} {
			if err := e.docker("run", "-d", "--name", name, fixture.Image, "sleep", "3600"); err != nil {
				return err
			}
			defer e.docker("rm", "-f", name)
		}
		if err := errors.Join(e.docker("cp", dir+"/small", copyName+":/out"), e.docker("cp", dir+"/big", copyName+":/big")); err != nil {
			return err
		}
	}
	shell := func(line string) error { return command("sh", "-c", "cd "+dir+" && "+line) }
	docker := func(e *engine, args string) error { return shell("docker -H unix://" + e.socket + " " + args) }
	tare := func(args string) error {
		return shell(filepath.Join(b.o.bin, "tare") + " -H unix://" + b.tare.socket + " " + args)
	}
	n := 0
	into := func(run func(args string) error) func() error {
		return func() error { n++; return run("cp small " + copyName + "-in:/in" + strconv.Itoa(n)) }
	}
	out := func(run func(args string) error) func() error {
		return func() error { n++; return run("cp " + copyName + ":/out out" + strconv.Itoa(n)) }
	}
	tar := contestant{"tar c into tar x", func() error { n++; return shell(fmt.Sprintf("mkdir tar%d && tar c small | tar x -C tar%d", n, n)) }}
	in, outs := []contestant{tar, {"tare cp", into(tare)}}, []contestant{tar, {"tare cp", out(tare)}}
	exports := []contestant{
		{"tar c of the same files", func() error { return shell("tar c small big | cat >/dev/null") }},
		{"tare export", func() error { return tare("export " + copyName + " | cat >/dev/null") }},
	}
	for _, e := range b.engines() {
		by := func(args string) error { return docker(e, args) }
		in = append(in, contestant{"docker cp against " + e.name, into(by)})
		outs = append(outs, contestant{"docker cp against " + e.name, out(by)})
		exports = append(exports, contestant{"docker export against " + e.name, func() error { return by("export " + copyName + " | cat >/dev/null") }})
	}
	return errors.Join(b.race("export of a root of 200 MB", copies, exports...), b.race("cp of 10,000 files out of a container", copies, outs...),
		b.race("cp of 10,000 files into one", copies, in...))
}

// filesToCopy makes small files, in directories of a hundred, and a big one.
func (b *bench) filesToCopy(dir string) error {
	for i := range copyFiles {
		d := filepath.Join(dir, "small", strconv.Itoa(i/100))
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, strconv.Itoa(i)), fmt.Appendf(nil, "the file number %d\n", i), 0o644)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte(logLine), copyRoot/len(logLine)), 0o644)
}
