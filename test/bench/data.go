package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// logLine is what the gigabyte consists of.
const logLine = "a line of a hundred bytes, which is about what programs write: 0123456789 0123456789 0123456789 01\n"

// loggedLine is that line in a json-file log.
const loggedLine = `{"log":"a line of a hundred bytes, which is about what programs write: 0123456789 0123456789 0123456789 01\n","stream":"stdout","time":"2026-01-01T00:00:00.000000000Z"}` + "\n"

const (
	lineFile = 1_000_000 * len(logLine) // the file of lines
	gigabyte = 10 * lineFile            // what the command that gigabyte returns writes
)

// gigabyte makes the file "lines" and returns the command that writes it ten
// times from where it is mounted in a container.
func (b *bench) gigabyte() (string, error) {
	file := bytes.Repeat([]byte(logLine), lineFile/len(logLine))
	return "cat" + strings.Repeat(" /lines", gigabyte/lineFile), os.WriteFile(b.path("lines"), file, 0644)
}

// logs times a container that writes a gigabyte of lines, and reading it back.
func (b *bench) logs() error {
	cat, err := b.gigabyte()
	if err != nil {
		return err
	}
	file := b.path("lines")
	const megabytes = float64(gigabyte) / 1e6
	asLogged := b.path("logged")
	if err := os.WriteFile(asLogged, bytes.Repeat([]byte(loggedLine), lineFile/len(logLine)), 0644); err != nil {
		return err
	}
	floor, err := timed(func() error {
		return command("sh", "-c", strings.ReplaceAll(cat, "/lines", asLogged)+" | cat >"+b.path("copy"))
	})
	if err != nil {
		return err
	}
	fmt.Printf("| 1 GB of log lines, no cap | written MB/s | read back MB/s | lines lost |\n|---|---|---|---|\n")
	fmt.Printf("| floor: a pipe to a file, of what the log holds | %.0f | | |\n", megabytes/floor.Seconds())
	type reader struct{ name, command string }
	for _, e := range b.engines() {
		t := time.Now()
		args := []string{"run", "--name", "bench-logs", "-d", "-v", file + ":/lines:ro"}
		if e == b.tare {
			args = append(args, "--log-opt", "max-size=-1") // dockerd has no cap unless told, and knows no -1
		}
		err := e.docker(append(args, fixture.Image, "sh", "-c", cat)...)
		if err := errors.Join(err, e.docker("wait", "bench-logs")); err != nil {
			return err
		}
		written := time.Since(t)
		readers := []reader{{"docker against " + e.name, "docker -H unix://" + e.socket}}
		if e == b.tare {
			readers = append(readers, reader{"tare", filepath.Join(b.o.bin, "tare") + " -H unix://" + e.socket})
		}
		for _, r := range readers {
			t = time.Now()
			out, err := exec.Command("sh", "-c", r.command+" logs bench-logs | wc -l").Output()
			if err != nil {
				return err
			}
			got, _ := strconv.Atoi(strings.TrimSpace(string(out)))
			fmt.Printf("| %s | %.0f | %.0f | %d |\n", r.name, megabytes/written.Seconds(), megabytes/time.Since(t).Seconds(), gigabyte/len(logLine)-got)
		}
		if err := e.docker("rm", "bench-logs"); err != nil {
			return err
		}
	}
	fmt.Println()
	return errors.Join(os.Remove(file), os.Remove(asLogged), os.Remove(b.path("copy")))
}

// attached times a gigabyte of lines from a container to the end of a pipe
// behind the command line, with a log beside it and without.
func (b *bench) attached() error {
	cat, err := b.gigabyte()
	if err != nil {
		return err
	}
	type row struct{ name, command string }
	rows := []row{{"floor: a pipe", strings.ReplaceAll(cat, "/lines", b.path("lines"))}}
	for _, driver := range []string{"json-file", "none"} {
		run := " run --rm --log-driver " + driver + " -v " + b.path("lines") + ":/lines:ro " + fixture.Image + " " + cat
		rows = append(rows, row{"tare, log " + driver, filepath.Join(b.o.bin, "tare") + " -H unix://" + b.tare.socket + run})
		for _, e := range b.engines() {
			rows = append(rows, row{"docker against " + e.name + ", log " + driver, "docker -H unix://" + e.socket + run})
		}
	}
	fmt.Printf("| 1 GB of lines through an attached client | MB/s |\n|---|---|\n")
	for _, r := range rows {
		t := time.Now()
		out, err := exec.Command("sh", "-c", r.command+" | wc -c").Output()
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(out)); got != strconv.Itoa(gigabyte) {
			return fmt.Errorf("%s: %s bytes of %d arrived", r.name, got, gigabyte)
		}
		fmt.Printf("| %s | %.0f |\n", r.name, float64(gigabyte)/1e6/time.Since(t).Seconds())
	}
	fmt.Println()
	return os.Remove(b.path("lines"))
}

// realImage is the archive of an image of 200 MB and eight layers: the one that
// TARE_BENCH_IMAGE names, or one that is made.
func (b *bench) realImage() (string, error) {
	if archive := os.Getenv("TARE_BENCH_IMAGE"); archive != "" {
		return archive, nil
	}
	if err := command("test/images/make.sh", "debian", b.path(".")); err != nil {
		return "", err
	}
	return b.path("debian.tar"), nil
}

// loads times loading a real image, plain and as gzip.
func (b *bench) loads() error {
	plain, err := b.realImage()
	if err != nil {
		return err
	}
	zipped := b.path("debian.tar.gz")
	if err := command("sh", "-c", "gzip -1 <"+plain+" >"+zipped); err != nil {
		return err
	}
	for _, archive := range []string{plain, zipped} {
		if err := b.load(archive); err != nil {
			return err
		}
	}
	return os.Remove(zipped)
}

func (b *bench) load(archive string) error {
	fmt.Printf("| load of %s | s |\n|---|---|\n", filepath.Base(archive))
	floor, err := timed(func() error {
		to := b.path("untar")
		return errors.Join(command("sh", "-c", "mkdir "+to+" && tar -C "+to+" -xf "+archive+" && sha256sum "+archive), os.RemoveAll(to))
	})
	if err != nil {
		return err
	}
	fmt.Printf("| floor: tar and sha256sum of the outer file | %.2f |\n", floor.Seconds())
	for _, e := range b.engines() {
		var refs []string
		took, err := fastest(3, func() error {
			out, err := exec.Command("docker", "-H", "unix://"+e.socket, "load", "-q", "-i", archive).Output()
			refs = strings.Fields(strings.ReplaceAll(string(out), "Loaded image:", ""))
			return err
		}, func() error { return e.docker(append([]string{"rmi", "-f"}, refs...)...) })
		if err != nil {
			return err
		}
		fmt.Printf("| docker load against %s, empty store | %.2f |\n", e.name, took.Seconds())
	}
	fmt.Println()
	return nil
}

// fastest is the least time that do took in n rounds; undo is not timed.
func fastest(n int, do, undo func() error) (time.Duration, error) {
	best := time.Duration(math.MaxInt64)
	for range n {
		t := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		best = min(best, time.Since(t))
		if err := undo(); err != nil {
			return 0, err
		}
	}
	return best, nil
}
