package main

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/test/fixture"
)

// images times what makes and writes images without a registry: 200 MB in
// three large and 6,000 small files, which a container has written.
func (b *bench) images() error {
	if err := someFiles(b.path("files")); err != nil {
		return err
	}
	for _, e := range b.engines() {
		if err := e.docker("run", "--name", "bench-images", "-v", b.path("files")+":/files:ro", fixture.Image, "/bin/busybox", "cp", "-a", "/files", "/copy"); err != nil {
			return err
		}
		defer e.docker("rm", "-f", "bench-images")
	}
	fmt.Printf("| 200 MB in 6,003 files | s |\n|---|---|\n")
	tar := "tar -C " + b.path(".") + " -c files"
	for _, floor := range []struct{ name, line string }{
		{"floor of commit: tar to a file beside sha256sum, untar, sync", tar + " | tee " + b.path("floor.tar") + " | sha256sum && mkdir " + b.path("floor") + " && tar -C " + b.path("floor") + " -xf " + b.path("floor.tar") + " && sync -f " + b.path("floor")},
		{"floor of export: tar -c to /dev/null through a pipe", tar + " | cat >/dev/null"},
		{"floor of save: cat of the blob to a file", "cat " + b.path("floor.tar") + " >" + b.path("floor.copy")},
	} {
		line := floor.line
		took, err := fastest(3, func() error { return command("sh", "-c", line) }, func() error { return os.RemoveAll(b.path("floor")) })
		if err != nil {
			return err
		}
		fmt.Printf("| %s | %.2f |\n", floor.name, took.Seconds())
	}
	for _, e := range b.engines() {
		if err := b.imagesOf(e); err != nil {
			return err
		}
	}
	fmt.Println()
	return errors.Join(os.RemoveAll(b.path("files")), os.Remove(b.path("floor.tar")), os.Remove(b.path("floor.copy")))
}

func (b *bench) imagesOf(e *engine) error {
	const image = "bench-images:1"
	out := b.path("out.tar")
	docker := func(args ...string) func() error { return func() error { return e.docker(args...) } }
	remove := func() error { return errors.Join(e.docker("rmi", "-f", image), command("sync", "-f", b.path("."))) }
	for _, row := range []struct {
		name      string
		do, after func() error
	}{
		{"docker commit", docker("commit", "bench-images", image), remove},
		{"docker export to a file", docker("export", "-o", out, "bench-images"), func() error { return nil }},
		{"docker import of that file", docker("import", out, image), remove},
	} {
		took, err := fastest(3, row.do, row.after)
		if err != nil {
			return err
		}
		fmt.Printf("| %s against %s | %.2f |\n", row.name, e.name, took.Seconds())
	}
	if err := e.docker("commit", "bench-images", image); err != nil {
		return err
	}
	took, err := fastest(3, docker("save", "-o", out, image), func() error { return os.Remove(out) })
	if err != nil {
		return err
	}
	fmt.Printf("| docker save to a file against %s | %.2f |\n", e.name, took.Seconds())
	return e.docker("rmi", "-f", image)
}

// someFiles makes what no compression makes smaller.
func someFiles(dir string) error {
	random := rand.New(rand.NewSource(1))
	write := func(name string, size int) error {
		data := make([]byte, size)
		random.Read(data)
		return os.WriteFile(filepath.Join(dir, name), data, 0o644)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for i := range 3 {
		errs = append(errs, write(fmt.Sprint("large", i), 33<<20))
	}
	for i := range 6000 {
		sub := fmt.Sprint("d", i%100, "/")
		if i < 100 {
			errs = append(errs, os.Mkdir(filepath.Join(dir, sub), 0o755))
		}
		errs = append(errs, write(fmt.Sprint(sub, i), 17<<10))
	}
	return errors.Join(errs...)
}
