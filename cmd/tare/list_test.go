package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// TestPsDoesNotSteerTheTerminal shows what others wrote in a container's
// fields as text.
func TestPsDoesNotSteerTheTerminal(t *testing.T) {
	e := newFakeEngine(t)
	e.answer("GET /containers/json", []map[string]any{{
		"Id": "0123456789abcdef", "Image": "evil\x1b[2J", "Command": "\x1b]0;x\x07", "Names": []string{"/a\u009bb"}, "Status": "Up\nfake line", "State": "running",
	}})
	got := tare(t, e.host, "", "ps")
	if got.code != 0 || strings.ContainsAny(got.out, "\x1b\x07\u009b") || strings.Count(got.out, "\n") != 2 {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.out, `evil\x1b[2J`) || !strings.Contains(got.out, `a\x9bb`) {
		t.Errorf("%q", got.out)
	}
}

func TestErrorsDoNotSteerTheTerminal(t *testing.T) {
	e := newFakeEngine(t)
	if got := tare(t, e.host, "", "inspect", "--type", "image", "x\x1b[2J"); got.code != 1 || strings.Contains(got.err, "\x1b") {
		t.Errorf("%+v", got)
	}
	if got := tare(t, e.host, "", "no\x1bsuch"); got.code != 1 || strings.Contains(got.err, "\x1b") {
		t.Errorf("%+v", got)
	}
}

func TestPortList(t *testing.T) {
	any4 := netip.MustParseAddr("0.0.0.0")
	any6 := netip.MustParseAddr("::")
	port := func(ip netip.Addr, inside, outside uint16, proto string) container.PortSummary {
		return container.PortSummary{IP: ip, PrivatePort: inside, PublicPort: outside, Type: proto}
	}
	got := portList([]container.PortSummary{
		port(any4, 80, 8080, "tcp"), port(any6, 80, 8080, "tcp"), port(any4, 91, 91, "udp"), port(any4, 90, 90, "udp"),
		port(netip.Addr{}, 443, 0, "tcp"), port(netip.Addr{}, 444, 0, "tcp"),
	})
	if want := "0.0.0.0:90-91->90-91/udp, 443-444/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUnknownWords(t *testing.T) {
	for line, want := range map[string]result{
		"foo":            {"", "tare: unknown command: tare foo\n\nRun 'tare --help' for more information\n", 1},
		"container foo":  {"", "tare: unknown command: tare container foo\n\nUsage:  tare container\n\nRun 'tare container --help' for more information\n", 1},
		"ps --foo":       {"", "unknown flag: --foo\n\nUsage:  tare ps [OPTIONS]\n\nRun 'tare ps --help' for more information\n", 125},
		"ps x":           {"", "tare: 'tare ps' accepts no arguments\n\nUsage:  tare ps [OPTIONS]\n\nRun 'tare ps --help' for more information\n", 1},
		"rm":             {"", "tare: 'tare rm' requires at least 1 argument\n\nUsage:  tare rm [OPTIONS] CONTAINER [CONTAINER...]\n\nSee 'tare rm --help' for more information\n", 1},
		"-l foo ps":      {"", "Unable to parse logging level: foo\n", 1},
		"run -m xyz img": {"", "invalid argument \"xyz\" for \"-m, --memory\" flag: invalid size: 'xyz'\n\nUsage:  tare run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'tare run --help' for more information\n", 125},
	} {
		if got := tare(t, "unix:///nonexistent", "", strings.Fields(line)...); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", line, got, want)
		}
	}
}

// TestHelpOfEveryCommand walks the whole tree: each command has a help that
// begins with its usage, says nothing twice, and no flag is declared twice (pflag would
// panic).
func TestHelpOfEveryCommand(t *testing.T) {
	var walk func(list []command, path ...string)
	walk = func(list []command, path ...string) {
		for _, e := range list {
			args := append(append([]string{}, path...), strings.Fields(e.name)[0])
			got := tare(t, "unix:///nonexistent", "", append(args, "--help")...)
			if want := "Usage:  tare " + strings.Join(args, " "); got.code != 0 || !strings.HasPrefix(got.out, want) {
				t.Errorf("%q: %+v", args, got)
			}
			if parts := strings.SplitN(got.out, "\n\n", 4); len(parts) == 4 && strings.HasPrefix(parts[2], parts[1]) {
				t.Errorf("%q says twice %q", args, parts[1])
			}
			walk(e.sub, args...)
		}
	}
	walk(commands)
}
