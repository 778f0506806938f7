package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

const (
	buildName   = "bench-build"
	buildRounds = 5
	buildSteps  = 10
	buildFiles  = 10_000
	buildBytes  = 500 << 20
)

// builder is a command line that builds, and the engine that does.
type builder struct {
	name  string
	build func(args ...string) error
	e     *engine
}

func (b *bench) builders() []builder {
	list := []builder{{"tare build", func(args ...string) error { return b.tareCLI(append([]string{"build"}, args...)...) }, b.tare}}
	for _, e := range b.engines() {
		list = append(list, builder{"docker build (BuildKit) against " + e.name, e.buildKit, e})
	}
	return list
}

// buildKit builds by BuildKit: the command line's own in Docker 20.10, later by the
// plugin buildx.
func (e *engine) buildKit(args ...string) error {
	cmd := exec.Command("docker", append([]string{"-H", "unix://" + e.socket, "build"}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker build %v: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}

// builds times builds of ten steps, and of large contexts. Images and caches go before
// each cold one.
func (b *bench) builds() error {
	steps := b.path("build-steps")
	if err := makeSteps(steps); err != nil {
		return err
	}
	n := 0
	change := func() error {
		n++
		return os.WriteFile(filepath.Join(steps, "file"), fmt.Appendf(nil, "%d\n", n), 0o644)
	}
	none := func() error { return nil }
	if err := errors.Join(
		b.buildRace(fmt.Sprintf("build of %d RUN steps, cold", buildSteps), steps, true, none),
		b.buildRace("the same, cached", steps, false, none),
		b.buildRace("the same, one file changed before its last two steps", steps, false, change),
	); err != nil {
		return err
	}
	files, big := b.path("build-files"), b.path("build-big")
	if err := errors.Join(makeFiles(files), makeBig(big)); err != nil {
		return err
	}
	changed := func() error {
		n++
		return os.WriteFile(filepath.Join(files, "0", "0"), fmt.Appendf(nil, "%d\n", n), 0o644)
	}
	return errors.Join(
		b.buildRace(fmt.Sprintf("context of %d files, cold", buildFiles), files, true, none),
		b.buildRace("the same, one file changed", files, false, changed),
		b.buildRace("context of 500 MB, cold", big, true, none),
	)
}

// buildRace times builds of a context by turns. before is done before each one, and
// not timed.
func (b *bench) buildRace(title, context string, cold bool, before func() error) error {
	all := b.builders()
	times := make([][]time.Duration, len(all))
	for round := range buildRounds + 1 {
		for i, by := range all {
			if cold {
				if err := by.e.forgetBuilds(); err != nil {
					return err
				}
			}
			if err := before(); err != nil {
				return err
			}
			start := time.Now()
			if err := by.build("-q", "-t", buildName, context); err != nil {
				return fmt.Errorf("%s: %w", by.name, err)
			}
			if round > 0 { // the first opens what is opened once
				times[i] = append(times[i], time.Since(start))
			}
		}
	}
	fmt.Printf("| %s | median ms | all ms | ratio |\n|---|---|---|---|\n", title)
	var base time.Duration
	for i, by := range all {
		slices.Sort(times[i])
		median := times[i][len(times[i])/2]
		if i == 0 {
			base = median
		}
		var list []string
		for _, t := range times[i] {
			list = append(list, strconv.FormatInt(t.Milliseconds(), 10))
		}
		fmt.Printf("| %s | %.0f | %s | %.1f |\n", by.name, ms(median), strings.Join(list, " "), float64(median)/float64(base))
	}
	fmt.Println()
	return nil
}

// forgetBuilds removes what builds have left: the image, and the cache.
func (e *engine) forgetBuilds() error {
	if id, err := e.output("images", "-q", buildName); err != nil || id != "" {
		if err := errors.Join(err, e.docker("rmi", "-f", buildName)); err != nil {
			return err
		}
	}
	return errors.Join(e.docker("image", "prune", "-f"), e.docker("builder", "prune", "-af"))
}

// makeSteps makes a context of little more than a Dockerfile.
func makeSteps(dir string) error {
	var d strings.Builder
	fmt.Fprintln(&d, "FROM", fixture.Image)
	for i := range buildSteps - 1 {
		fmt.Fprintf(&d, "RUN echo %d > /file-%d\n", i, i)
	}
	fmt.Fprint(&d, "COPY file /\nRUN cat /file > /copy\n")
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(d.String()), 0o644))
}

const copyAll = "FROM " + fixture.Image + "\nCOPY . /context\n"

func makeFiles(dir string) error {
	for i := range buildFiles {
		d := filepath.Join(dir, strconv.Itoa(i/100))
		if err := errors.Join(os.MkdirAll(d, 0o755), os.WriteFile(filepath.Join(d, strconv.Itoa(i%100)), fmt.Appendf(nil, "the file number %d\n", i), 0o644)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(copyAll), 0o644)
}

// makeBig makes a context of ten files that cannot be packed.
func makeBig(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	noise := rand.NewChaCha8([32]byte{1})
	part := make([]byte, buildBytes/10)
	for i := range 10 {
		if _, err := noise.Read(part); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), part, 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(copyAll), 0o644)
}
