package api

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// NetworkLimits are what a container's links to bridge networks let through. They are of
// each link, in its place on the host, which the container cannot change. The zero value
// limits nothing.
type NetworkLimits struct {
	RateIn  uint64        `json:"rateIn,omitempty"`  // bytes per second to the container; 0: any
	RateOut uint64        `json:"rateOut,omitempty"` // bytes per second from the container; 0: any
	Delay   time.Duration `json:"delay,omitempty"`   // of each packet to the container
	Loss    float64       `json:"loss,omitempty"`    // percent of the packets to the container
}

// Bounds of limits. A slower link would take more than a second for one packet.
const (
	minRate  = 1000             // bytes per second
	maxRate  = 1e12 / 8         // bytes per second: 1 tbit
	maxDelay = time.Minute      // the kernel's clock of delays holds four
	minDelay = time.Microsecond // below it the kernel is not exact
)

// rateUnits are in bytes per second. mbps and the like, which are bits to some people and
// bytes to tc, are none of them.
var rateUnits = map[string]float64{
	"bit": 1. / 8, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8, "tbit": 1e12 / 8,
	"kibit": 1 << 10 / 8, "mibit": 1 << 20 / 8, "gibit": 1 << 30 / 8, "tibit": 1 << 40 / 8,
	"B/s": 1, "kB/s": 1e3, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9,
	"KiB/s": 1 << 10, "MiB/s": 1 << 20, "GiB/s": 1 << 30,
}

// readRate reads a rate such as 10mbit or 1.5MB/s; 0 is no limit.
func readRate(v string, to *uint64) error {
	if v == "0" {
		*to = 0
		return nil
	}
	digits := len(v) - len(strings.TrimLeft(v, "0123456789."))
	n, err := strconv.ParseFloat(v[:digits], 64)
	unit, known := rateUnits[v[digits:]]
	if !known { // bits are written in many ways
		unit, known = rateUnits[strings.ToLower(strings.TrimSuffix(v[digits:], "/s"))]
	}
	if err != nil || !known {
		return errors.New("must be a rate such as 10mbit (bits per second) or 1.5MB/s (bytes), 0 for no limit")
	}
	rate := math.Round(n * unit)
	if rate < minRate || rate > maxRate {
		return errors.New("must be between 8kbit and 1tbit, or 0 for no limit")
	}
	*to = uint64(rate)
	return nil
}

// readDelay reads the delay of packets; 0 is none.
func readDelay(v string, to *time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d != 0 && (d < minDelay || d > maxDelay) {
		return errors.New("must be a time from 1us to 1m, such as 100ms, or 0 for none")
	}
	*to = d
	return nil
}

// readLoss reads a percentage, with or without its sign.
func readLoss(v string, to *float64) error {
	n, err := strconv.ParseFloat(strings.TrimSuffix(v, "%"), 64)
	if err != nil || !(n >= 0 && n <= 100) {
		return errors.New("must be a percentage from 0 to 100, such as 0.5%")
	}
	*to = n
	return nil
}
