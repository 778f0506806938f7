package format

import (
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Size shows a number of bytes with three digits: 1.98MB.
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// Ago shows how long ago something was: "2 minutes ago".
func Ago(t, now time.Time) string { return units.HumanDuration(now.Sub(t)) + " ago" }

// ShortID is the form of a container's or image's id in tables.
func ShortID(id string) string {
	if _, hex, ok := strings.Cut(id, ":"); ok {
		id = hex
	}
	return id[:min(12, len(id))]
}

// Ellipsis cuts s to n characters, the last of which then is "…".
func Ellipsis(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	if n <= 1 {
		return string(runes[:n])
	}
	return string(runes[:n-1]) + "…"
}
