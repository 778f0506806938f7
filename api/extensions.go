package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ExtensionPrefix begins the annotations that are options of this engine.
const ExtensionPrefix = "tare."

// Extension is an option of a container that Docker does not have. It travels
// as an annotation of the create request, so that every client can send it
// (docs/decisions/0012-options-as-annotations.md); run and create of the command
// line have a flag of the same name.
type Extension struct {
	Name  string // of the flag, and of the annotation behind ExtensionPrefix
	Value string // what stands for the value in documents
	Usage string // what it does to the container
	List  bool   // a flag that is given again adds to the value, with a comma
	Live  bool   // it can be changed later, also while the container runs: OptionsPath
	read  func(value string, to *Extensions) error
}

// Annotation is the key under which the option travels.
func (x *Extension) Annotation() string { return ExtensionPrefix + x.Name }

// Extensions are the values of one container. The zero value asks for nothing.
type Extensions struct {
	Timeout     time.Duration // of a run; 0: none
	OnUnhealthy string        // what follows: "kill", "stop", "restart"; "": nothing
	Systemd     string        // "always", "auto" or "false"; "": false
	TimeZone    string        // name below /usr/share/zoneinfo, or LocalTimeZone; "": the image's
	Requires    []string      // containers, as the request calls them
	Startup     StartupProbe
	Network     NetworkLimits
	Owners      []BindOwner
}

// BindOwner says as whose the files of a bind appear that belong to the owner of its
// source. What these make there belongs to that one.
type BindOwner struct {
	Target   string // where the bind is, clean and absolute
	UID, GID uint32 // of the container
	Group    bool   // GID was given; else groups are the host's
}

// StartupProbe has to succeed before the health check begins.
type StartupProbe struct {
	Test              []string      // as HealthConfig.Test; nil: there is none
	Interval, Timeout time.Duration // 0: the engine's default
	Retries           int           // failures after which the container is restarted; 0: never
	Successes         int           // that it takes; 0 is 1
}

// LocalTimeZone is the time zone of the engine's host, whatever it is at a start.
const LocalTimeZone = "local"

// ExtensionTable lists all of them, by name. Who adds one adds an entry here,
// and its row to the table of docs/api.md.
var ExtensionTable = []Extension{
	{Name: "bind-owner", Value: "TARGET=UID[:GID]", Usage: "User and group of the container as whose the files of a bind mount appear that belong to the source's owner", List: true, read: readOwners},
	{Name: "health-on-failure", Value: "none|kill|restart|stop", Usage: "What to do with the container when it becomes unhealthy: none, kill, restart or stop", read: func(v string, x *Extensions) error {
		if err := oneOf(v, "none", "kill", "restart", "stop"); err != nil {
			return err
		}
		x.OnUnhealthy = strings.TrimPrefix(v, "none")
		return nil
	}},
	{Name: "health-startup-cmd", Value: "COMMAND", Usage: `Command that has to succeed before the health check begins: a line of shell or ["PROGRAM", "ARG"]`, read: func(v string, x *Extensions) error {
		var argv []string
		if json.Unmarshal([]byte(v), &argv) != nil { // "[ -e /ready ]" is shell as well
			return x.Startup.test(v, "CMD-SHELL", v)
		}
		return x.Startup.test(v, append([]string{"CMD"}, argv...)...)
	}},
	{Name: "health-startup-file", Value: "PATH", Usage: "File that has to be in the container before the health check begins", read: startupTest("FILE")},
	{Name: "health-startup-grpc", Value: "HOST:PORT[/SERVICE]", Usage: "gRPC service in the container that has to be SERVING before the health check begins", read: startupTest("GRPC")},
	{Name: "health-startup-http", Value: "URL", Usage: "URL that has to answer in the container before the health check begins", read: startupTest("HTTP")},
	{Name: "health-startup-interval", Value: "DURATION", Usage: "Time between two startup probes (default 30s)", read: func(v string, x *Extensions) error {
		return readDuration(v, &x.Startup.Interval)
	}},
	{Name: "health-startup-retries", Value: "N", Usage: "Failed startup probes after which the container is restarted; 0 for never", read: func(v string, x *Extensions) error {
		return readCount(v, &x.Startup.Retries)
	}},
	{Name: "health-startup-success", Value: "N", Usage: "Startup probes that have to succeed before the health check begins (default 1)", read: func(v string, x *Extensions) error {
		return readCount(v, &x.Startup.Successes)
	}},
	{Name: "health-startup-tcp", Value: "HOST:PORT", Usage: "Port in the container that has to accept a connection before the health check begins", read: startupTest("TCP")},
	{Name: "health-startup-timeout", Value: "DURATION", Usage: "Time after which a startup probe has failed (default 30s)", read: func(v string, x *Extensions) error {
		return readDuration(v, &x.Startup.Timeout)
	}},
	{Name: "net-delay", Value: "DURATION", Usage: "Delay of each packet to the container, such as 100ms", Live: true, read: func(v string, x *Extensions) error {
		return readDelay(v, &x.Network.Delay)
	}},
	{Name: "net-loss", Value: "PERCENT", Usage: "Share of the packets to the container that get lost, such as 0.5%", Live: true, read: func(v string, x *Extensions) error {
		return readLoss(v, &x.Network.Loss)
	}},
	{Name: "net-rate-in", Value: "RATE", Usage: "Most that comes to the container by each of its networks, such as 10mbit or 1.5MB/s; 0 for no limit", Live: true, read: func(v string, x *Extensions) error {
		return readRate(v, &x.Network.RateIn)
	}},
	{Name: "net-rate-out", Value: "RATE", Usage: "Most that the container sends by each of its networks, such as 10mbit or 1.5MB/s; 0 for no limit", Live: true, read: func(v string, x *Extensions) error {
		return readRate(v, &x.Network.RateOut)
	}},
	{Name: "requires", Value: "CONTAINER[,CONTAINER]", Usage: "Containers that are started before this one", List: true, read: func(v string, x *Extensions) error {
		for name := range strings.SplitSeq(v, ",") {
			if name == "" {
				return errors.New("must be names or IDs of containers, with commas between them")
			}
			x.Requires = append(x.Requires, name)
		}
		return nil
	}},
	{Name: "systemd", Value: "auto|always|false", Usage: "Let systemd be the first process: always, auto (if the command is systemd or /sbin/init), false", read: func(v string, x *Extensions) error {
		x.Systemd = v
		return oneOf(v, "auto", "always", "false")
	}},
	{Name: "timeout", Value: "SECONDS", Usage: "Seconds after which the container is killed", read: func(v string, x *Extensions) error {
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil || n > maxTimeout {
			return errors.New("must be a whole number of seconds, 0 for no limit")
		}
		x.Timeout = time.Duration(n) * time.Second
		return nil
	}},
	{Name: "tz", Value: "ZONE|local", Usage: "Time zone in the container, such as Europe/Berlin, or local for the one of the engine's host", read: func(v string, x *Extensions) error {
		x.TimeZone = v
		if !isZone(v) {
			return errors.New("must be local or the name of a time zone, such as Europe/Berlin")
		}
		return nil
	}},
}

// maxTimeout keeps the seconds within a time.Duration.
const maxTimeout = 100 * 365 * 24 * 60 * 60

// ReadExtensions reads the options among a request's annotations. An error names
// the annotation that is unknown or has a bad value.
func ReadExtensions(annotations map[string]string) (Extensions, error) {
	var all Extensions
	known := 0
	for i := range ExtensionTable {
		x := &ExtensionTable[i]
		value, given := annotations[x.Annotation()]
		if !given {
			continue
		}
		known++
		if err := x.read(value, &all); err != nil {
			return Extensions{}, fmt.Errorf("invalid %s %q: %w", x.Annotation(), cut(value), err)
		}
	}
	for key := range annotations {
		if !strings.HasPrefix(key, ExtensionPrefix) {
			continue
		}
		if known--; known < 0 {
			return Extensions{}, unknownExtension(annotations)
		}
	}
	return all, nil
}

// unknownExtension names the first annotation that is in nobody's table.
func unknownExtension(annotations map[string]string) error {
	var names, unknown []string
	for i := range ExtensionTable {
		names = append(names, ExtensionTable[i].Annotation())
	}
	for key := range annotations {
		if strings.HasPrefix(key, ExtensionPrefix) && !slices.Contains(names, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	last := len(names) - 1
	return fmt.Errorf("unknown annotation %q: what begins with %q is an option of this engine, which has %s and %s", cut(unknown[0]), ExtensionPrefix, strings.Join(names[:last], ", "), names[last])
}

// cut bounds a value that goes into an error text.
func cut(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

func oneOf(v string, words ...string) error {
	if slices.Contains(words, v) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("must be %s or %s", strings.Join(words[:last], ", "), words[last])
}

func readCount(v string, to *int) error {
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil {
		return errors.New("must be a whole number")
	}
	*to = int(n)
	return nil
}

func readDuration(v string, to *time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < time.Millisecond {
		return errors.New("must be a time of at least 1ms, such as 10s")
	}
	*to = d
	return nil
}

// startupTest reads the argument of a startup probe that the engine makes itself.
func startupTest(kind string) func(string, *Extensions) error {
	return func(v string, x *Extensions) error { return x.Startup.test(v, kind, v) }
}

// test sets the one startup probe that a container can have.
func (p *StartupProbe) test(value string, test ...string) error {
	switch {
	case value == "" || len(test) < 2:
		return errors.New("must not be empty")
	case p.Test != nil:
		return errors.New("there is another startup probe: a container has one")
	}
	p.Test = test
	return nil
}

// readOwners reads TARGET=UID[:GID], several with commas between them.
func readOwners(v string, x *Extensions) error {
	for one := range strings.SplitSeq(v, ",") {
		i := strings.LastIndexByte(one, '=')
		if i <= 0 || !path.IsAbs(one[:i]) {
			return errors.New("must be TARGET=UID[:GID], where TARGET is the absolute path of a bind mount in the container")
		}
		o := BindOwner{Target: path.Clean(one[:i])}
		uid, gid, group := strings.Cut(one[i+1:], ":")
		var err error
		if o.UID, err = readID(uid); err == nil && group {
			o.Group = true
			o.GID, err = readID(gid)
		}
		if err != nil {
			return err
		}
		if slices.ContainsFunc(x.Owners, func(have BindOwner) bool { return have.Target == o.Target }) {
			return fmt.Errorf("%s is there twice", o.Target)
		}
		x.Owners = append(x.Owners, o)
	}
	return nil
}

// readID reads the number of a user or group; the last one is the kernel's "none".
func readID(s string) (uint32, error) {
	id, err := strconv.ParseUint(s, 10, 32)
	if err != nil || id == 1<<32-1 {
		return 0, errors.New("users and groups must be numbers, such as 1000:1000")
	}
	return uint32(id), nil
}

// isZone reports whether s can be the name of a time zone: words with slashes
// between them, none of which leads elsewhere.
func isZone(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	for word := range strings.SplitSeq(s, "/") {
		if word == "" || word[0] == '.' || strings.ContainsFunc(word, func(r rune) bool {
			return r >= 0x80 || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.", r)
		}) {
			return false
		}
	}
	return true
}
