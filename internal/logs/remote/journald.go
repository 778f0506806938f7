package remote

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/logfile"
)

// journalSocket is where systemd's journal listens.
const journalSocket = "/run/systemd/journal/socket"

func openJournald(o map[string]string, s *Subject) (*Receiver, error) {
	tag, err := Tag(o, "{{.ID}}", s)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{
		"CONTAINER_ID": ident.Short(s.ID), "CONTAINER_ID_FULL": s.ID, "CONTAINER_NAME": s.Name, "CONTAINER_TAG": tag,
		"IMAGE_NAME": s.Image, "SYSLOG_IDENTIFIER": tag,
	}
	for k, v := range Attributes(o, s) {
		if k = journalField(k); k != "" {
			fields[k] = v
		}
	}
	var common []byte
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		common = appendField(common, k, []byte(fields[k]))
	}
	r := &Receiver{Places: []Place{{"unixgram", journalSocket}}}
	r.encode = func(m *Message) ([][]byte, error) {
		priority := "6"
		if m.Stream == logfile.Stderr {
			priority = "3"
		}
		b := appendField(bytes.Clone(common), "PRIORITY", []byte(priority))
		b = appendField(b, "SYSLOG_TIMESTAMP", []byte(m.Time.UTC().Format("2006-01-02T15:04:05.999999999Z07:00")))
		if p := m.Partial; p != nil {
			if !p.Last {
				b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
			}
			b = appendField(b, "CONTAINER_PARTIAL_ID", []byte(p.ID))
			b = appendField(b, "CONTAINER_PARTIAL_ORDINAL", []byte(strconv.Itoa(p.Ordinal)))
			b = appendField(b, "CONTAINER_PARTIAL_LAST", []byte(strconv.FormatBool(p.Last)))
		}
		return [][]byte{appendField(b, "MESSAGE", m.Line)}, nil
	}
	r.present = func() error {
		if _, err := os.Stat(journalSocket); err != nil {
			return invalid("journald is not enabled on this host: %w", err)
		}
		return nil
	}
	return r, nil
}

// journalField makes a name that the journal takes.
func journalField(s string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z':
			return c - 'a' + 'A'
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			return c
		}
		return '_'
	}, s)
	return strings.TrimLeft(name, "_")
}

// appendField appends a field in the journal's native protocol.
func appendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(append(b, '='), value...)
	} else {
		b = binary.LittleEndian.AppendUint64(append(b, '\n'), uint64(len(value)))
		b = append(b, value...)
	}
	return append(b, '\n')
}
