package api

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseUnix reads a time of the wire: seconds since 1970, with an optional
// fraction of up to nine digits. The empty string and "0" are the zero time.
func ParseUnix(s string) (time.Time, error) {
	if s == "" || s == "0" {
		return time.Time{}, nil
	}
	whole, frac, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("not a Unix timestamp: %q", s)
	}
	var nsec uint64
	if frac != "" {
		frac = (frac + "000000000")[:9]
		if nsec, err = strconv.ParseUint(frac, 10, 32); err != nil {
			return time.Time{}, fmt.Errorf("not a Unix timestamp: %q", s)
		}
	}
	return time.Unix(sec, int64(nsec)), nil
}

// FormatUnix is the inverse of ParseUnix.
func FormatUnix(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

// dateLayouts are the dates people may give, without a zone (the local one
// then) and with one.
var dateLayouts = []string{
	"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
	"2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02Z07:00",
}

// ParseTime reads a time as people give it to --since, --until and the filter
// until: a Go duration back from now ("10m"), a date, or a Unix timestamp.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		return now.Add(-d), nil
	}
	for _, layout := range dateLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	t, err := ParseUnix(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("failed to parse value as time or duration: %q", s)
	}
	return t, nil
}
