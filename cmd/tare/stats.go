package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/term"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type statsOptions struct {
	all, noStream, noTrunc bool
	format                 string
}

func newStatsCommand(c *cli) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:         "stats [OPTIONS] [CONTAINER...]",
		Short:       "Show what containers use, as it changes",
		Annotations: aliases("container stats", "stats"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			if o.format == "" {
				o.format = c.config.StatsFormat
			}
			return runStats(ctx, c, cl, o, names)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noStream, "no-stream", false, "Show what is used now and end")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	return cmd
}

// errShown ends a stream of which no more is wanted.
var errShown = errors.New("shown")

// runStats shows the containers named, or else the running ones: these in one
// request where the engine is tared, otherwise with a request for each.
func runStats(ctx context.Context, c *cli, cl *client.Client, o statsOptions, names []string) error {
	s := &statsScreen{out: c.out, o: o}
	if len(names) > 0 || o.all {
		return s.each(ctx, cl, names)
	}
	err := s.together(ctx, cl)
	if errors.Is(err, client.ErrNoStats) {
		return s.each(ctx, cl, nil)
	}
	return err
}

// statsScreen draws rows one over the other on a terminal, one after the other
// elsewhere.
type statsScreen struct {
	out *os.File
	o   statsOptions
}

func (s *statsScreen) draw(rows []statsRow) error {
	var b bytes.Buffer
	if err := format.Print(&b, s.o.format, statsColumns(), statsFields(), rows); err != nil {
		return err
	}
	text := b.String()
	if term.IsTerminal(s.out.Fd()) {
		if format.EscapeLines(s.o.format) == s.o.format { // its colours are its own
			text = format.EscapeLines(text)
		}
		if !s.o.noStream && isScreen(s.out) {
			// From the top left; each line erases what it leaves of the one it
			// is written over, and the last what is below.
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		}
	}
	_, err := s.out.WriteString(text)
	return err
}

// together shows all running containers by tared's one stream of them.
func (s *statsScreen) together(ctx context.Context, cl *client.Client) error {
	var order []string // as they came, so that rows keep their places
	rounds := 0
	err := cl.Stats(ctx, func(round []container.StatsResponse) error {
		if rounds++; rounds == 1 && s.o.noStream && len(round) > 0 {
			return nil // a share of the CPU takes two
		}
		rows := s.arrange(&order, round)
		if err := s.draw(rows); err != nil || !s.o.noStream {
			return err
		}
		return errShown
	})
	if errors.Is(err, errShown) {
		return nil
	}
	return err
}

// arrange makes rows of a round: those of order first, without the ones that
// have ended, then what has come, by name.
func (s *statsScreen) arrange(order *[]string, round []container.StatsResponse) []statsRow {
	byID := map[string]*container.StatsResponse{}
	for i := range round {
		byID[round[i].ID] = &round[i]
	}
	rows := make([]statsRow, 0, len(round))
	for _, id := range *order {
		if st := byID[id]; st != nil {
			rows = append(rows, statsRow{container: format.ShortID(id), s: st, full: s.o.noTrunc})
			delete(byID, id)
		}
	}
	known := len(rows)
	for id, st := range byID {
		rows = append(rows, statsRow{container: format.ShortID(id), s: st, full: s.o.noTrunc})
	}
	slices.SortFunc(rows[known:], func(a, b statsRow) int { return compareNatural(a.s.Name, b.s.Name) })
	*order = (*order)[:0]
	for _, r := range rows {
		*order = append(*order, r.s.ID)
	}
	return rows
}

func statsColumns() []format.Column[statsRow] {
	return []format.Column[statsRow]{
		{Title: "CONTAINER ID", Value: statsRow.ID},
		{Title: "NAME", Value: statsRow.Name},
		{Title: "CPU %", Value: statsRow.CPUPerc},
		{Title: "MEM USAGE / LIMIT", Value: statsRow.MemUsage},
		{Title: "MEM %", Value: statsRow.MemPerc},
		{Title: "NET I/O", Value: statsRow.NetIO},
		{Title: "BLOCK I/O", Value: statsRow.BlockIO},
		{Title: "PIDS", Value: statsRow.PIDs},
	}
}

// statsFields are what templates see of a container's use.
func statsFields() format.Fields[statsRow] {
	return format.Fields[statsRow]{Type: "*container.statsContext", List: []format.Field[statsRow]{
		format.Text("Container", "", statsRow.Container),
		format.Text("Name", "", statsRow.Name),
		format.Text("ID", "CONTAINER ID", statsRow.ID),
		format.Text("CPUPerc", "CPU %", statsRow.CPUPerc),
		format.Text("MemUsage", "MEM USAGE / LIMIT", statsRow.MemUsage),
		format.Text("MemPerc", "MEM %", statsRow.MemPerc),
		format.Text("NetIO", "NET I/O", statsRow.NetIO),
		format.Text("BlockIO", "BLOCK I/O", statsRow.BlockIO),
		format.Text("PIDs", "", statsRow.PIDs),
	}}
}

// statsRow is a container as stats and templates show it.
type statsRow struct {
	container string                   // as it was asked for
	s         *container.StatsResponse // nil: nothing is known
	full      bool                     // nothing is shortened
}

const unknownUse = "--"

func (r statsRow) Container() string { return r.container }

func (r statsRow) ID() string {
	switch {
	case r.s == nil:
		return unknownUse
	case r.full:
		return r.s.ID
	}
	return format.ShortID(r.s.ID)
}

func (r statsRow) Name() string {
	if r.s == nil || len(r.s.Name) < 2 {
		return unknownUse
	}
	return r.s.Name[1:]
}

// CPUPerc is the share of one CPU since the sample before: 200 % are two.
func (r statsRow) CPUPerc() string {
	if r.s == nil {
		return unknownUse
	}
	now, before := r.s.CPUStats, r.s.PreCPUStats
	used := float64(now.CPUUsage.TotalUsage) - float64(before.CPUUsage.TotalUsage)
	host := float64(now.SystemUsage) - float64(before.SystemUsage)
	cpus := float64(now.OnlineCPUs)
	if cpus == 0 { // engines before API 1.27
		cpus = float64(len(now.CPUUsage.PercpuUsage))
	}
	if used <= 0 || host <= 0 {
		return percent(0)
	}
	return percent(used / host * cpus * 100)
}

// memory is what cannot be given back: without the files that were read once.
func (r statsRow) memory() uint64 {
	m := r.s.MemoryStats
	for _, name := range []string{"total_inactive_file", "inactive_file"} { // cgroup v1, v2
		if v, ok := m.Stats[name]; ok && v < m.Usage {
			return m.Usage - v
		}
	}
	return m.Usage
}

func (r statsRow) MemUsage() string {
	if r.s == nil {
		return unknownUse + " / " + unknownUse
	}
	return units.BytesSize(float64(r.memory())) + " / " + units.BytesSize(float64(r.s.MemoryStats.Limit))
}

func (r statsRow) MemPerc() string {
	switch {
	case r.s == nil:
		return unknownUse
	case r.s.MemoryStats.Limit == 0:
		return percent(0)
	}
	return percent(float64(r.memory()) / float64(r.s.MemoryStats.Limit) * 100)
}

func (r statsRow) NetIO() string {
	if r.s == nil {
		return unknownUse
	}
	var in, out uint64
	for _, n := range r.s.Networks {
		in, out = in+n.RxBytes, out+n.TxBytes
	}
	return bytesPair(in, out)
}

func (r statsRow) BlockIO() string {
	if r.s == nil {
		return unknownUse
	}
	var read, written uint64
	for _, e := range r.s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			read += e.Value
		case "write":
			written += e.Value
		}
	}
	return bytesPair(read, written)
}

func (r statsRow) PIDs() string {
	if r.s == nil {
		return unknownUse
	}
	return strconv.FormatUint(r.s.PidsStats.Current, 10)
}

func percent(v float64) string { return fmt.Sprintf("%.2f%%", v) }

func bytesPair(a, b uint64) string {
	return units.HumanSizeWithPrecision(float64(a), 3) + " / " + units.HumanSizeWithPrecision(float64(b), 3)
}
