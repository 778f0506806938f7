// Package ps lists processes as ps(1) does, from /proc: no program is started
// for it.
package ps

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
)

// List shows the processes pids as ps(1) would, without those that have ended
// meanwhile. args are ps's; empty is -ef. It fails on options that it does not
// know, before it calls pids.
func List(args string, pids func() ([]int, error)) (container.TopResponse, error) {
	columns, err := columnsOf(args)
	if err != nil {
		return container.TopResponse{}, err
	}
	list, err := pids()
	if err != nil {
		return container.TopResponse{}, err
	}
	slices.Sort(list)
	res := container.TopResponse{Processes: [][]string{}}
	for _, col := range columns {
		res.Titles = append(res.Titles, col.title)
	}
	h := readHost()
	for _, pid := range list {
		pr, err := read(pid, h)
		if err != nil {
			continue // it ended while we looked
		}
		row := make([]string, len(columns))
		for i, col := range columns {
			row[i] = col.value(pr)
		}
		res.Processes = append(res.Processes, row)
	}
	return res, nil
}

// column is one column of ps.
type column struct {
	title string
	value func(*process) string
}

// known knows the columns by ps's names for them.
var known = map[string]column{
	"pid":     {"PID", func(p *process) string { return strconv.Itoa(p.pid) }},
	"ppid":    {"PPID", func(p *process) string { return p.stat[1] }},
	"pgid":    {"PGID", func(p *process) string { return p.stat[2] }},
	"sid":     {"SID", func(p *process) string { return p.stat[3] }},
	"uid":     {"UID", func(p *process) string { return p.uid }},
	"user":    {"USER", (*process).user},
	"comm":    {"COMMAND", func(p *process) string { return p.comm }},
	"args":    {"COMMAND", (*process).args},
	"cmd":     {"CMD", (*process).args},
	"command": {"COMMAND", (*process).args},
	"stat":    {"STAT", func(p *process) string { return p.stat[0] }},
	"state":   {"S", func(p *process) string { return p.stat[0] }},
	"tty":     {"TT", (*process).tty},
	"time":    {"TIME", func(p *process) string { return clock(p.cpu()) }},
	"etime":   {"ELAPSED", (*process).elapsed},
	"stime":   {"STIME", (*process).started},
	"start":   {"START", (*process).started},
	"c":       {"C", func(p *process) string { return strconv.Itoa(int(p.load())) }},
	"pcpu":    {"%CPU", func(p *process) string { return fmt.Sprintf("%.1f", p.load()) }},
	"pmem":    {"%MEM", func(p *process) string { return fmt.Sprintf("%.1f", 100*float64(p.rss())/float64(p.host.memory)) }},
	"vsz":     {"VSZ", func(p *process) string { return strconv.FormatInt(p.field(20)/1024, 10) }},
	"rss":     {"RSS", func(p *process) string { return strconv.FormatInt(p.rss()/1024, 10) }},
	"ni":      {"NI", func(p *process) string { return p.stat[16] }},
	"pri":     {"PRI", func(p *process) string { return p.stat[15] }},
	"nlwp":    {"NLWP", func(p *process) string { return p.stat[17] }},
}

var alias = map[string]string{
	"ruser": "user", "euser": "user", "uname": "user", "euid": "uid", "%cpu": "pcpu", "%mem": "pmem", "vsize": "vsz", "rssize": "rss",
	"tname": "tty", "tt": "tty", "s": "state", "nice": "ni", "thcount": "nlwp", "cputime": "time", "ucmd": "comm", "pgrp": "pgid", "sess": "sid", "start_time": "stime",
}

// columnsOf understands ps's options that choose columns: -ef, aux, and
// -eo/-o/o with a list. Others are refused: ps itself is not started.
func columnsOf(args string) ([]column, error) {
	words := strings.Fields(args)
	if len(words) == 0 {
		words = []string{"-ef"}
	}
	var names []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch opt := strings.TrimLeft(w, "-"); {
		case opt == "ef" || opt == "f" || opt == "e" || opt == "A":
			names = []string{"user=UID", "pid", "ppid", "c", "stime", "tty=TTY", "time", "cmd"}
		case opt == "aux" || opt == "axu" || opt == "u":
			names = []string{"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty=TTY", "stat", "start", "time", "command"}
		case opt == "o" || opt == "eo" || opt == "axo" || opt == "ao":
			if i+1 == len(words) {
				return nil, errdefs.New(errdefs.InvalidArgument, "ps: option %q needs a list of columns", w)
			}
			i++
			names = strings.Split(words[i], ",")
		case strings.HasPrefix(opt, "o") || strings.HasPrefix(opt, "eo"):
			names = strings.Split(strings.TrimPrefix(strings.TrimPrefix(opt, "e"), "o"), ",")
		default:
			return nil, errdefs.New(errdefs.InvalidArgument, "ps: option %q is not supported: use -ef, aux, or -o with a list of columns", w)
		}
	}
	return namedColumns(names)
}

func namedColumns(names []string) ([]column, error) {
	var columns []column
	for _, n := range names {
		name, title, renamed := strings.Cut(n, "=")
		if a := alias[name]; a != "" {
			name = a
		}
		col, ok := known[name]
		if !ok {
			return nil, errdefs.New(errdefs.InvalidArgument, "ps: unknown column %q", n)
		}
		if renamed {
			col.title = title
		}
		columns = append(columns, col)
	}
	return columns, nil
}

// process is one process as procfs shows it; proc_pid_stat(5).
type process struct {
	host  host
	pid   int
	comm  string
	uid   string
	stat  []string // from the field "state" on
	cline []byte
}

// host is what times and shares are relative to.
type host struct {
	uptime float64 // seconds
	memory int64   // bytes
	now    time.Time
}

// ticks is the unit of times in /proc/PID/stat on every architecture Linux has.
const ticks = 100

func readHost() host {
	h := host{now: time.Now(), memory: 1}
	if b, err := os.ReadFile("/proc/uptime"); err == nil {
		fmt.Sscan(string(b), &h.uptime)
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscanf(string(b), "MemTotal: %d", &h.memory)
		h.memory *= 1024
	}
	return h
}

func read(pid int, on host) (*process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return nil, err
	}
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return nil, fmt.Errorf("%s/stat: no command", dir)
	}
	p := &process{host: on, pid: pid, comm: string(stat[open+1 : end]), stat: strings.Fields(string(stat[end+1:]))}
	if len(p.stat) < 22 {
		return nil, fmt.Errorf("%s/stat: %d fields", dir, len(p.stat))
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(status)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			p.uid = strings.Fields(ids)[1]
		}
	}
	p.cline, err = os.ReadFile(dir + "/cmdline")
	return p, err
}

func (p *process) field(i int) int64 {
	n, _ := strconv.ParseInt(p.stat[i], 10, 64) // the kernel's: always a number
	return n
}

func (p *process) user() string {
	if u, err := user.LookupId(p.uid); err == nil {
		return u.Username
	}
	return p.uid
}

func (p *process) args() string {
	if len(p.cline) == 0 {
		return "[" + p.comm + "]"
	}
	return string(bytes.ReplaceAll(bytes.TrimRight(p.cline, "\x00"), []byte{0}, []byte{' '}))
}

func (p *process) rss() int64 { return p.field(21) * int64(os.Getpagesize()) }

func (p *process) cpu() float64 { return float64(p.field(11)+p.field(12)) / ticks }

func (p *process) age() float64 { return p.host.uptime - float64(p.field(19))/ticks }

// load is the share of one CPU over the process's life, in percent.
func (p *process) load() float64 {
	if age := p.age(); age > 0 {
		return 100 * p.cpu() / age
	}
	return 0
}

func (p *process) tty() string {
	n := p.field(4)
	major, minor := n>>8&0xfff, n&0xff|n>>12&0xfff00
	switch {
	case n == 0:
		return "?"
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)<<8+minor)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

func (p *process) started() string {
	at := p.host.now.Add(-time.Duration(p.age() * float64(time.Second)))
	if p.host.now.Sub(at) < 24*time.Hour {
		return at.Format("15:04")
	}
	return at.Format("Jan02")
}

func (p *process) elapsed() string {
	s := int(p.age())
	switch {
	case s >= 86400:
		return fmt.Sprintf("%d-%02d:%02d:%02d", s/86400, s/3600%24, s/60%60, s%60)
	case s >= 3600:
		return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}

// clock renders seconds of processor time.
func clock(seconds float64) string {
	s := int(seconds)
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
