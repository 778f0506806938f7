package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// probes measures what the engine's own health checks take of a processor: 500
// a second, over a hundred containers.
func (b *bench) probes() error {
	const containers, each, during = 100, 200 * time.Millisecond, 10 * time.Second
	perSecond := containers * int(time.Second/each)
	fmt.Printf("| %d probes a second of the engine's own | %% of a core |\n|---|---|\n", perSecond)
	for _, kind := range [][]string{
		{"none", "--no-healthcheck"},
		{"a file", "--health-file", "/bin/true"},
		{"a TCP connection that is refused", "--health-tcp", "127.0.0.1:9"},
	} {
		_, err := together(containers, func() error {
			args := append([]string{"run", "-d", "--label", "bench=probes", "--health-interval", each.String()}, kind[1:]...)
			if kind[0] == "none" {
				args = []string{"run", "-d", "--label", "bench=probes"}
			}
			return b.tareCLI(append(args, fixture.Image, "sleep", "3600")...)
		})
		if err != nil {
			return err
		}
		time.Sleep(2 * time.Second)
		before := cpuTime(b.tare.cmd.Process.Pid)
		time.Sleep(during)
		took := cpuTime(b.tare.cmd.Process.Pid) - before
		fmt.Printf("| %s | %.1f |\n", kind[0], 100*took.Seconds()/during.Seconds())
		if err := b.removeLabelled("bench=probes"); err != nil {
			return err
		}
	}
	fmt.Println()
	return nil
}

func (b *bench) removeLabelled(label string) error {
	ids, err := b.tare.output("ps", "-aq", "--filter", "label="+label)
	if err != nil {
		return err
	}
	return b.tareCLI(append([]string{"rm", "-f"}, strings.Fields(ids)...)...)
}

// cpuTime is what a process has used of the processors, in user space and in
// the kernel.
func cpuTime(pid int) time.Duration {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(string(f[11]))
	system, _ := strconv.Atoi(string(f[12]))
	const ticks = 100 // a second, on every Linux
	return time.Duration(user+system) * time.Second / ticks
}
