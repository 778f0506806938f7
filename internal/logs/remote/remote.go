// Package remote is the log drivers whose lines go to somebody else: what their options
// say, how a line looks on the wire, and the connection. It knows Docker's drivers syslog,
// journald, gelf and fluentd.
//
//	Check          a request's options are refused, in Docker's words where it has some
//	Open           options become a Receiver
//	Receiver.Dial  a connection; Encode makes packets for it
//
// Which lines go when, and what becomes of them while nobody receives, is package
// forward's.
package remote

import (
	"crypto/tls"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/logfile"
)

// Subject is the container whose lines are told of.
type Subject struct {
	ID, Name         string
	ImageID, Image   string
	Command          []string
	Created          time.Time
	Env              []string
	Labels           map[string]string
	Hostname, Daemon string // of the host; the engine's name in tags
}

// Message is one line of output, or a piece of a longer one.
type Message struct {
	Line    []byte // without its newline
	Stream  logfile.Stream
	Time    time.Time
	Partial *Partial // nil: it is a whole line
}

// Partial says which piece of a line a message is.
type Partial struct {
	ID      string // the same for all pieces
	Ordinal int    // from 1
	Last    bool
}

// Receiver is where the lines of a container go.
type Receiver struct {
	Places     []Place       // the first that answers
	RetryWait  time.Duration // after the first failure; 0: the forwarder's own
	MaxRetries int           // failures in a row after which lines are given up; 0: never
	Ack        bool          // one message at a time, which the receiver acknowledges

	writeTimeout time.Duration // 0: writePatience

	tls     func() (*tls.Config, error) // nil: without
	encode  func(*Message) ([][]byte, error)
	awaited func(packet []byte) (ack string) // with Ack: what the answer must name
	present func() error                     // nil: nothing has to be there at the create
}

// Place is an address: of tcp, udp, unix or unixgram.
type Place struct{ Network, Address string }

// Encode makes the packets of a message, none for one that the driver leaves out: parts
// of a stream, or a datagram each.
func (r *Receiver) Encode(m *Message) ([][]byte, error) { return r.encode(m) }

// driver is one log driver.
type driver struct {
	options []string // beside commonOptions
	unknown string   // what is said of another one, as Docker does
	open    func(o map[string]string, s *Subject) (*Receiver, error)
}

var commonOptions = []string{"env", "env-regex", "labels", "labels-regex", "tag"}

func drivers() map[string]driver {
	return map[string]driver{
		"syslog": {[]string{
			"syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
		}, "unknown log opt '%s' for syslog log driver", openSyslog},
		"journald": {nil, "unknown log opt '%s' for journald log driver", openJournald},
		"gelf": {[]string{
			"gelf-address", "gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay",
		}, "unknown log opt %q for gelf log driver", openGELF},
		"fluentd": {[]string{
			"fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-async-reconnect-interval", "fluentd-buffer-limit", "fluentd-max-retries",
			"fluentd-request-ack", "fluentd-retry-wait", "fluentd-sub-second-precision", "fluentd-write-timeout",
		}, "unknown log opt '%s' for fluentd log driver", openFluentd},
	}
}

// Drivers are the names of the drivers.
func Drivers() []string { return slices.Sorted(maps.Keys(drivers())) }

// Is reports whether a log driver is one of these.
func Is(name string) bool {
	_, ok := drivers()[name]
	return ok
}

// Check refuses options with which a driver cannot work, and places of this host that are
// not there.
func Check(name string, options map[string]string) error {
	d := drivers()[name]
	for _, k := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains(commonOptions, k) && !slices.Contains(d.options, k) {
			return invalid(d.unknown, k)
		}
	}
	r, err := Open(name, options, &sample)
	if err != nil {
		return err
	}
	if r.tls != nil {
		if _, err := r.tls(); err != nil {
			return err
		}
	}
	if r.present != nil {
		return r.present()
	}
	return nil
}

// sample is a container that a template for tags can be tried on.
var sample = Subject{ID: strings.Repeat("0", 64), ImageID: "sha256:" + strings.Repeat("0", 64), Daemon: "docker"}

// Open reads the options of a container.
func Open(name string, options map[string]string, s *Subject) (*Receiver, error) {
	return drivers()[name].open(options, s)
}

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, format, args...)
}

// isTransport reports whether an address says how it is reached, for Docker.
func isTransport(address string) bool {
	for _, p := range []string{"tcp://", "tcp+tls://", "udp://", "unix://", "unixgram://"} {
		if strings.HasPrefix(address, p) && len(address) > len(p) {
			return true
		}
	}
	return false
}
