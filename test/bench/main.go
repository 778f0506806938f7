// Command bench compares, in one run on one machine: the floors (a bare fork
// and exec, namespaces alone), runc, Debian's dockerd through the docker command
// line, and Tare through `tare` and through the docker command line. It prints a
// table for docs/benchmarks.md.
//
//	go run ./test/bench [-bin bin] [-rounds 100] [-only run,runtime,exec,many,starts,memory,probes,dirty,logs,attach,load,storage,images,registry,copies,build,network,crowd,crowd-names,clients,compose]
//
// It needs root. Everything runs in a network and mount namespace of its own, on
// an ext4 in a file on tmpfs, and is taken away at the end. Contestants of a row
// take turns, so that a noisy moment hits all of them.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	if mode := os.Getenv(netMode); mode != "" {
		if err := netMain(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("TARE_BENCH_BOX") == "" {
		os.Exit(enterBox())
	}
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "directory with tare, tared, tare-keeper")
	flag.IntVar(&o.rounds, "rounds", 100, "rounds of each row")
	flag.IntVar(&o.sleepers, "sleepers", 1000, "containers of the row with many")
	flag.IntVar(&o.crowd, "crowd", 3000, "containers on one network, of the section crowd")
	flag.BoolVar(&o.reference, "docker", true, "measure Debian's dockerd, podman and containerd too")
	flag.IntVar(&o.clients, "clients", 1000, "clients at once, of the section clients")
	only := flag.String("only", "", "sections to run, all if empty")
	flag.Parse()
	if err := run(o, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	bin                              string
	rounds, sleepers, crowd, clients int
	reference                        bool
}

// enterBox runs this program again in namespaces of its own.
func enterBox() int {
	self, err := os.Executable()
	if err == nil {
		cmd := exec.Command("unshare", append([]string{"-n", "-m", "--propagation", "private", "--", self}, os.Args[1:]...)...)
		cmd.Env = append(os.Environ(), "TARE_BENCH_BOX=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = cmd.Run()
	}
	if x, ok := errors.AsType[*exec.ExitError](err); ok {
		return x.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func run(o options, only string) (err error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	o.bin = bin
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("%s, %d CPUs, Linux %s, %s\n\n", time.Now().Format("2006-01-02"), runtime.NumCPU(), kernel(), runtime.Version())
	for _, s := range sections {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

var sections = []struct {
	name string
	run  func(*bench) error
}{
	{"run", (*bench).runs},
	{"runtime", (*bench).runtimes},
	{"exec", (*bench).execs},
	{"many", (*bench).atOnce},
	{"starts", (*bench).starts},
	{"memory", (*bench).memory},
	{"probes", (*bench).probes},
	{"dirty", (*bench).dirty},
	{"logs", (*bench).logs},
	{"attach", (*bench).attached},
	{"load", (*bench).loads},
	{"storage", (*bench).storage},
	{"images", (*bench).images},
	{"registry", (*bench).registry},
	{"copies", (*bench).copies},
	{"build", (*bench).builds},
	{"network", (*bench).network},
	{"crowd", (*bench).crowd},
	{"crowd-names", (*bench).crowdNames},
	{"clients", (*bench).clients},
	{"compose", (*bench).compose},
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}
