package progress

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// counts reports whether there is something to count.
func counts(p *jsonstream.Progress) bool { return p.Current > 0 || p.Total > 0 }

// Widths of the bar between its brackets. Where there is less room than for the
// smallest there is none.
const (
	minBar = 10
	maxBar = 50
)

// bar shows how much of something is done, in so many columns if they suffice:
//
//	[=========>          ]  12.3MB/24.6MB
func bar(p *jsonstream.Progress, cols int) string {
	numbers := amounts(p)
	if p.Total <= 0 {
		return numbers
	}
	width := min(cols-len(numbers)-len("[>] "), maxBar)
	if width < minBar {
		return numbers
	}
	done := int(min(float64(p.Current)/float64(p.Total), 1) * float64(width))
	done = max(done, 0)
	return strings.TrimRight("["+strings.Repeat("=", done)+">"+strings.Repeat(" ", width-done)+"] "+numbers, " ")
}

// amounts are what is done and what there is to do.
func amounts(p *jsonstream.Progress) string {
	amount := func(n int64) string { return units.HumanSize(float64(n)) }
	unit := ""
	if p.Units != "" {
		amount = func(n int64) string { return fmt.Sprint(n) }
		unit = " " + format.Escape(p.Units)
	}
	switch {
	case p.Total <= 0, p.Current > p.Total && !p.HideCounts: // the total is wrong
		return align(amount(p.Current), unit)
	case p.HideCounts:
		return ""
	}
	return align(amount(p.Current), "/"+amount(p.Total)+unit)
}

// align keeps sizes in one place while they grow.
func align(number, rest string) string {
	if rest == "" || strings.HasPrefix(rest, "/") {
		return fmt.Sprintf("%8s%s", number, rest)
	}
	return number + rest
}
