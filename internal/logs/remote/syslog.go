package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
)

// facilities of syslog, in the order of their numbers.
var facilities = strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron local0 local1 local2 local3 local4 local5 local6 local7")

// localSyslog is where a host's own syslog listens.
var localSyslog = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

func openSyslog(o map[string]string, s *Subject) (*Receiver, error) {
	r := &Receiver{}
	secure, err := r.syslogPlaces(o)
	if err != nil {
		return nil, err
	}
	facility, err := parseFacility(o["syslog-facility"])
	if err != nil {
		return nil, err
	}
	tag, err := Tag(o, "{{.ID}}", s)
	if err != nil {
		return nil, err
	}
	form, err := syslogForm(o["syslog-format"], s.Hostname, strings.ReplaceAll(tag, "\n", " "))
	if err != nil {
		return nil, err
	}
	counted := secure && strings.HasPrefix(o["syslog-format"], "rfc5424") // RFC 5425
	r.encode = func(m *Message) ([][]byte, error) {
		severity := 6 // info
		if m.Stream == logfile.Stderr {
			severity = 3 // err
		}
		text := form(facility<<3|severity, m) + "\n"
		if counted {
			text = fmt.Sprintf("%d %s", len(text), text)
		}
		return [][]byte{[]byte(text)}, nil
	}
	if secure {
		r.tls = func() (*tls.Config, error) { return syslogTLS(o) }
	}
	return r, nil
}

// syslogPlaces reads the address; secure says that it wants TLS.
func (r *Receiver) syslogPlaces(o map[string]string) (secure bool, err error) {
	address := o["syslog-address"]
	if address == "" {
		for _, path := range localSyslog {
			r.Places = append(r.Places, Place{"unixgram", path}, Place{"unix", path})
		}
		r.present = func() error {
			for _, path := range localSyslog {
				if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
					return nil
				}
			}
			return invalid("Unix syslog delivery error: this host has no syslog (%s): name one by syslog-address", strings.Join(localSyslog, ", "))
		}
		return false, nil
	}
	if !isTransport(address) {
		return false, invalid("syslog-address should be in form proto://address, got %v", address)
	}
	u, err := url.Parse(address)
	if err != nil {
		return false, invalid("syslog-address: %w", err)
	}
	if u.Scheme == "unix" || u.Scheme == "unixgram" {
		r.Places = []Place{{u.Scheme, u.Path}}
		r.present = func() error {
			if _, err := os.Stat(u.Path); err != nil {
				return invalid("syslog-address: %w", err)
			}
			return nil
		}
		return false, nil
	}
	host := u.Host
	if _, _, err := net.SplitHostPort(host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return false, invalid("syslog-address: %w", err)
		}
		host += ":514"
	}
	network, secure := strings.CutSuffix(u.Scheme, "+tls")
	r.Places = []Place{{network, host}}
	return secure, nil
}

func parseFacility(f string) (int, error) {
	if f == "" {
		return 3, nil // daemon
	}
	for n, name := range facilities {
		if name == f && (n < 12 || n > 15) { // Docker has no names for those between
			return n, nil
		}
	}
	if n, err := strconv.Atoi(f); err == nil && 0 <= n && n <= 23 {
		return n, nil
	}
	return 0, invalid("invalid syslog facility")
}

// syslogForm returns how a line is written in a format, without its end.
func syslogForm(format, host, tag string) (func(priority int, m *Message) string, error) {
	pid := os.Getpid()
	rfc5424 := func(layout string) func(int, *Message) string {
		return func(p int, m *Message) string {
			return fmt.Sprintf("<%d>1 %s %s %s %d %s - %s", p, m.Time.Local().Format(layout), host, tag, pid, tag, m.Line)
		}
	}
	switch format {
	case "":
		return func(p int, m *Message) string {
			return fmt.Sprintf("<%d>%s %s[%d]: %s", p, m.Time.Local().Format(time.Stamp), tag, pid, m.Line)
		}, nil
	case "rfc3164":
		return func(p int, m *Message) string {
			return fmt.Sprintf("<%d>%s %s %s[%d]: %s", p, m.Time.Local().Format(time.Stamp), host, tag, pid, m.Line)
		}, nil
	case "rfc5424":
		return rfc5424(time.RFC3339), nil
	case "rfc5424micro":
		return rfc5424("2006-01-02T15:04:05.000000Z07:00"), nil
	}
	return nil, invalid("Invalid syslog format")
}

func syslogTLS(o map[string]string) (*tls.Config, error) {
	_, skip := o["syslog-tls-skip-verify"]
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if ca := o["syslog-tls-ca-cert"]; ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, invalid("could not read CA certificate %q: %w", ca, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("failed to append certificates from PEM file: %q", ca)
		}
	}
	cert, key := o["syslog-tls-cert"], o["syslog-tls-key"]
	if cert == "" && key == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, invalid("Could not load X509 key pair: %w. Make sure the key is not encrypted", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
