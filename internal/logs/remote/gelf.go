package remote

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

// Limits of GELF over UDP.
const (
	gelfDatagram = 1420 // bytes, the header of a chunk among them
	gelfHeader   = 12
	gelfChunks   = 128
)

func openGELF(o map[string]string, s *Subject) (*Receiver, error) {
	u, err := gelfAddress(o["gelf-address"])
	if err != nil {
		return nil, err
	}
	if err := checkGELF(o, u.Scheme); err != nil {
		return nil, err
	}
	tag, err := Tag(o, "{{.ID}}", s)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{
		"_container_id": s.ID, "_container_name": s.Name, "_image_id": s.ImageID, "_image_name": s.Image,
		"_command": strings.Join(s.Command, " "), "_tag": tag, "_created": s.Created,
		"version": "1.1", "host": s.Hostname,
	}
	for k, v := range Attributes(o, s) {
		fields["_"+strings.TrimPrefix(k, "_")] = v
	}
	r := &Receiver{Places: []Place{{u.Scheme, u.Host}}}
	pack := func(b []byte) ([][]byte, error) { return [][]byte{append(b, 0)}, nil }
	if u.Scheme == "udp" {
		level := gzip.BestSpeed
		if l, ok := o["gelf-compression-level"]; ok {
			level, _ = strconv.Atoi(l) // it has been checked
		}
		pack = func(b []byte) ([][]byte, error) { return chunks(packed(b, o["gelf-compression-type"], level)) }
	} else {
		seconds, _ := strconv.Atoi(o["gelf-tcp-reconnect-delay"]) // it has been checked
		r.RetryWait = time.Duration(seconds) * time.Second
		r.MaxRetries, _ = strconv.Atoi(o["gelf-tcp-max-reconnect"])
	}
	r.encode = func(m *Message) ([][]byte, error) {
		if len(m.Line) == 0 { // receivers refuse what has no text
			return nil, nil
		}
		fields["short_message"], fields["timestamp"], fields["level"] = string(m.Line), json.Number(fmt.Sprintf("%d.%03d", m.Time.Unix(), m.Time.Nanosecond()/1e6)), 6
		if m.Stream == logfile.Stderr {
			fields["level"] = 3
		}
		b, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		return pack(b)
	}
	return r, nil
}

func gelfAddress(address string) (*url.URL, error) {
	if address == "" {
		return nil, invalid("gelf-address is a required parameter")
	}
	if !isTransport(address) {
		return nil, invalid("gelf-address should be in form proto://address, got %v", address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, invalid("gelf-address: %w", err)
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return nil, invalid("gelf: endpoint needs to be TCP or UDP")
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return nil, invalid("gelf: please provide gelf-address as proto://host:port")
	}
	return u, nil
}

// checkGELF refuses options that are not of the protocol, and values that cannot be.
func checkGELF(o map[string]string, scheme string) error {
	for _, k := range []string{"gelf-compression-level", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"} {
		v, ok := o[k]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(v)
		switch {
		case strings.HasPrefix(k, "gelf-tcp"):
			if scheme != "tcp" {
				return invalid("%q is only valid for TCP", k)
			}
			if err != nil || n < 0 {
				return invalid("%q must be a positive integer", k)
			}
		case scheme != "udp":
			return invalid("compression is only supported on UDP")
		case k == "gelf-compression-level" && (err != nil || n < flate.DefaultCompression || n > flate.BestCompression),
			k == "gelf-compression-type" && v != "gzip" && v != "zlib" && v != "none":
			return invalid("unknown value %q for log opt %q for gelf log driver", v, k)
		}
	}
	return nil
}

// packed compresses a message; the level has been checked.
func packed(b []byte, how string, level int) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "none":
		return b
	case "zlib":
		w, _ = zlib.NewWriterLevel(&out, level)
	default:
		w, _ = gzip.NewWriterLevel(&out, level)
	}
	w.Write(b) // a buffer takes everything
	w.Close()
	return out.Bytes()
}

// chunks cuts a message into datagrams.
func chunks(b []byte) ([][]byte, error) {
	if len(b) <= gelfDatagram {
		return [][]byte{b}, nil
	}
	const room = gelfDatagram - gelfHeader
	n := (len(b) + room - 1) / room
	if n > gelfChunks {
		return nil, fmt.Errorf("a message of %d bytes needs %d chunks, and GELF has %d at most", len(b), n, gelfChunks)
	}
	head := append([]byte{0x1e, 0x0f}, make([]byte, 8)...)
	rand.Read(head[2:])
	all := make([][]byte, n)
	for i := range all {
		piece := b[i*room : min(len(b), (i+1)*room)]
		all[i] = append(append(append([]byte{}, head...), byte(i), byte(n)), piece...)
	}
	return all, nil
}
