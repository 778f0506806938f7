package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type networkExplainOptions struct {
	api.NetworkExplainOptions
	json bool
}

// The exit codes of network explain; 1 is an error.
const (
	explainBlocked = 2
	explainUnknown = 3
)

func newNetworkExplainCommand(c *cli) *cobra.Command {
	var o networkExplainOptions
	cmd := &cobra.Command{
		Use:   "explain [OPTIONS] [CONTAINER|ADDRESS] PORT[/PROTO]",
		Short: "Say whether packets get to a port, or which firewall rule is in the way",
		Long: `The rules of all programs are followed for a new connection and its answer: to a port of the host
(tare network explain tcp/8080), of a container, which is asked for where it is published if it is
(tare network explain web 80/tcp), or of any address (tare network explain --from web 192.0.2.2 443,
tare network explain [2001:db8::1]:8080/tcp). Containers with addresses of both versions of IP are asked
by IPv4 unless --ipv6 is given.
The sender is a neighbour of the host unless --from names another. Nothing is sent, nothing is changed.

Exit codes: 0 it gets through, 2 something is in the way, 3 that depends on a rule that cannot be
evaluated, which is named, 1 any error.`,
		Args: rangeArgs(1, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			o.Port = args[len(args)-1]
			if len(args) == 2 {
				o.To = args[0]
			}
			return runNetworkExplain(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.From, "from", "", "Who sends: an address, a container, or host")
	f.BoolVarP(&o.IPv6, "ipv6", "6", false, "Ask of containers and of the host by IPv6")
	f.BoolVar(&o.json, "json", false, "Show the engine's document")
	return cmd
}

func runNetworkExplain(ctx context.Context, cl *client.Client, out io.Writer, o networkExplainOptions) error {
	x, err := cl.NetworkExplain(ctx, o.NetworkExplainOptions)
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "    ")
		err = e.Encode(x)
	} else {
		err = printExplanation(out, x)
	}
	if err != nil {
		return err
	}
	switch x.Verdict {
	case api.VerdictBlocked:
		return &exitError{code: explainBlocked}
	case api.VerdictUnknown:
		return &exitError{code: explainUnknown}
	}
	return nil
}

// printExplanation writes the verdict first, and the way last.
func printExplanation(out io.Writer, x api.NetworkExplanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for i := range cells {
			cells[i] = format.EscapeLines(strings.ReplaceAll(cells[i], "\t", " "))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	row(x.Verdict, x.Proto+" from "+x.From+" to "+x.To)
	row("why", x.Reason)
	if x.Place != nil {
		row("rule", placeText(*x.Place))
	}
	for _, d := range x.Doubts {
		row("doubt", placeText(d)+": "+d.Doubt+" cannot be evaluated")
	}
	if x.Advice != "" {
		row("advice", x.Advice)
	}
	for i, s := range x.Steps {
		row(map[bool]string{true: "way"}[i == 0], fmt.Sprintf("%-12s %s", s.Where, s.What))
	}
	return w.Flush()
}

// placeText names a rule as nft's commands do.
func placeText(p api.FilterPlace) string {
	s := "table " + p.Table
	if p.Chain != "" {
		s += " chain " + p.Chain
	}
	if p.Base != "" {
		s += " (from " + p.Base + ")"
	}
	if family, _, _ := strings.Cut(p.Table, " "); p.Handle != 0 && strings.HasSuffix(family, "tables-legacy") {
		s += fmt.Sprintf(" rule %d", p.Handle)
	} else if p.Handle != 0 {
		s += fmt.Sprintf(" handle %d", p.Handle)
	}
	return s + ": " + p.Rule
}
