package remote

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// fluentPort is where fluentd listens unless it is told otherwise.
const fluentPort = "24224"

func openFluentd(o map[string]string, s *Subject) (*Receiver, error) {
	r := &Receiver{}
	if err := r.fluentPlace(o["fluentd-address"]); err != nil {
		return nil, err
	}
	precise, err := r.fluentOptions(o)
	if err != nil {
		return nil, err
	}
	tag, err := Tag(o, "{{.ID}}", s)
	if err != nil {
		return nil, err
	}
	attrs := Attributes(o, s)
	r.encode = func(m *Message) ([][]byte, error) {
		record := map[string]string{"container_id": s.ID, "container_name": "/" + s.Name, "source": m.Stream.String(), "log": string(m.Line)}
		maps.Copy(record, attrs)
		if p := m.Partial; p != nil {
			record["partial_message"], record["partial_id"] = "true", p.ID
			record["partial_ordinal"], record["partial_last"] = strconv.Itoa(p.Ordinal), strconv.FormatBool(p.Last)
		}
		option := map[string]string{}
		if r.Ack {
			option["chunk"] = newChunk()
		}
		b := append([]byte{}, 0x94) // an array of four
		b = appendString(b, tag)
		b = appendFluentTime(b, m.Time, precise)
		b = appendMap(b, record)
		return [][]byte{appendMap(b, option)}, nil
	}
	return r, nil
}

func newChunk() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.StdEncoding.EncodeToString(id[:])
}

// chunkLen is the length of what newChunk makes, which ends a packet.
var chunkLen = base64.StdEncoding.EncodedLen(16)

func (r *Receiver) fluentPlace(given string) error {
	r.Places = []Place{{"tcp", net.JoinHostPort("127.0.0.1", fluentPort)}}
	if given == "" {
		return nil
	}
	network, address := "tcp", given
	if isTransport(given) || strings.HasPrefix(given, "tls://") {
		u, err := url.Parse(given)
		if err != nil {
			return invalid("invalid fluentd-address %s: %w", given, err)
		}
		switch u.Scheme {
		case "unix":
			r.Places = []Place{{"unix", u.Path}}
			return nil
		case "tls", "tcp+tls":
			r.tls = func() (*tls.Config, error) { return &tls.Config{MinVersion: tls.VersionTLS12}, nil }
		case "tcp":
		default:
			return invalid("invalid fluentd-address %s: fluentd listens by tcp, tls and unix", given)
		}
		if address = u.Host; u.Path != "" {
			return invalid("invalid fluentd-address %s: it has a path", given)
		}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return invalid("invalid fluentd-address %s: %w", given, err)
		}
		host, port = address, fluentPort
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return invalid("invalid fluentd-address %s: %w", given, err)
	}
	r.Places = []Place{{network, net.JoinHostPort(host, port)}}
	return nil
}

// fluentOptions reads the others; precise says that times have nanoseconds.
func (r *Receiver) fluentOptions(o map[string]string) (precise bool, err error) {
	wrong := func(k string, err error) error { return invalid("invalid value for %s: %w", k, err) }
	flags := map[string]bool{}
	for _, k := range []string{"fluentd-async", "fluentd-async-connect", "fluentd-sub-second-precision", "fluentd-request-ack"} {
		if o[k] == "" {
			continue
		}
		if flags[k], err = strconv.ParseBool(o[k]); err != nil {
			return false, wrong(k, err)
		}
	}
	if o["fluentd-async"] != "" && o["fluentd-async-connect"] != "" {
		return false, invalid("conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'")
	}
	for _, k := range []string{"fluentd-retry-wait", "fluentd-async-reconnect-interval", "fluentd-write-timeout"} {
		if o[k] == "" {
			continue
		}
		d, err := time.ParseDuration(o[k])
		if err != nil {
			return false, wrong(k, err)
		}
		switch {
		case d < 0:
			return false, invalid("invalid value for %s: value must be a positive duration: %s", k, o[k])
		case k == "fluentd-async-reconnect-interval" && d != 0 && (d < 100*time.Millisecond || d > 10*time.Second):
			return false, invalid("invalid value for fluentd-async-reconnect-interval: value (%s) must be between 100ms and 10s", d)
		case k == "fluentd-retry-wait":
			r.RetryWait = d
		case k == "fluentd-write-timeout":
			r.writeTimeout = d
		}
	}
	if v := o["fluentd-buffer-limit"]; v != "" {
		if _, err := units.RAMInBytes(v); err != nil {
			return false, wrong("fluentd-buffer-limit", err)
		}
	}
	if v := o["fluentd-max-retries"]; v != "" {
		n, err := strconv.ParseUint(v, 10, strconv.IntSize)
		if err != nil {
			return false, wrong("fluentd-max-retries", err)
		}
		r.MaxRetries = int(min(n, math.MaxInt32))
	}
	if r.Ack = flags["fluentd-request-ack"]; r.Ack {
		r.awaited = func(packet []byte) string { return string(packet[len(packet)-chunkLen:]) }
	}
	return flags["fluentd-sub-second-precision"], nil
}

// appendFluentTime appends a time in MessagePack, or as fluentd's EventTime.
func appendFluentTime(b []byte, t time.Time, precise bool) []byte {
	if !precise {
		return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(t.Unix()))
	}
	b = binary.BigEndian.AppendUint32(append(b, 0xd7, 0), uint32(t.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// appendMap appends texts by name in MessagePack, sorted.
func appendMap(b []byte, m map[string]string) []byte {
	if len(m) < 16 {
		b = append(b, 0x80|byte(len(m)))
	} else {
		b = binary.BigEndian.AppendUint32(append(b, 0xdf), uint32(len(m)))
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendString(appendString(b, k), m[k])
	}
	return b
}

// appendString appends a text in MessagePack.
func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}
