package spec

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/logfile"
)

// LogOptions are the options of a log that the engine keeps.
type LogOptions struct {
	MaxSize  int64 // bytes; 0: without end
	MaxFiles int
	Compress bool
	Format   logfile.Format
}

// logDrivers are those that there are, with their options beside commonLogOptions.
var logDrivers = map[string][]string{
	"json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
	"local":     {"max-size", "max-file", "compress"},
	"none":      nil,
}

// commonLogOptions are those of all drivers.
var commonLogOptions = []string{"mode", "max-buffer-size"}

// LogDrivers are the names of the log drivers that there are.
func LogDrivers() []string { return slices.Sorted(maps.Keys(logDrivers)) }

// LogFormat is how a log driver's files are written.
func LogFormat(driver string) logfile.Format {
	if driver == "local" {
		return logfile.Text
	}
	return logfile.JSON
}

// DefaultLog fills in what a container's log configuration leaves out: the driver,
// and if it is the default one the options that it does not name.
func DefaultLog(c *container.LogConfig, defaults container.LogConfig) {
	setDefault(&c.Type, defaults.Type)
	if c.Type != defaults.Type || len(defaults.Config) == 0 {
		return
	}
	all := maps.Clone(defaults.Config)
	maps.Copy(all, c.Config)
	c.Config = all
}

// ParseLogOptions reads the options of the log drivers json-file and local. A log of
// json-file that does not name the size gets the default one: a log without bounds
// fills the disk sooner or later. Local has bounds of its own, which are Docker's.
func ParseLogOptions(c container.LogConfig, maxSize int64, maxFile int) (o LogOptions, err error) {
	size, sized := c.Config["max-size"]
	files, counted := c.Config["max-file"]
	o.Format = LogFormat(c.Type)
	switch {
	case o.Format == logfile.Text:
		o.MaxSize, o.MaxFiles, o.Compress = 20<<20, 5, true
	case sized:
		o.MaxFiles = 1
	case counted:
		o.MaxSize = maxSize
	default:
		o.MaxSize, o.MaxFiles = maxSize, maxFile
	}
	if sized {
		o.MaxSize = 0
		if o.MaxSize, err = parseLogSize(size, o.Format); err != nil {
			return o, err
		}
	}
	if counted {
		if o.MaxFiles, err = strconv.Atoi(files); err != nil || o.MaxFiles < 1 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option max-file: max-file cannot be less than 1", files)
		}
	}
	if v, ok := c.Config["compress"]; ok {
		if o.Compress, err = strconv.ParseBool(v); err != nil {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option compress", v)
		}
	}
	return o, checkLogKeys(c)
}

// parseLogSize reads max-size, which is -1 of a log of json-file without bounds.
func parseLogSize(size string, f logfile.Format) (int64, error) {
	if size == "-1" && f == logfile.JSON {
		return 0, nil
	}
	n, err := units.FromHumanSize(size)
	if err != nil || n <= 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option max-size", size)
	}
	return n, nil
}

func checkLogKeys(c container.LogConfig) error {
	for _, k := range sortedKeysOf(c.Config) {
		v := c.Config[k]
		if !slices.Contains(commonLogOptions, k) && !slices.Contains(logDrivers[c.Type], k) {
			return errdefs.New(errdefs.InvalidArgument, "unknown log opt '%s' for %s log driver", k, c.Type)
		}
		switch k {
		case "labels-regex", "env-regex":
			if _, err := regexp.Compile(v); err != nil {
				return errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option %s: %w", v, k, err)
			}
		case "tag":
			if strings.Contains(v, "{{") && !knownTag(v) {
				return errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option tag: known are {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageName}}, {{.ImageID}}", v)
			}
		}
	}
	return nil
}

// LogSubject is the container whose lines get attributes.
type LogSubject struct {
	ID, Name string
	ImageID  string
	Config   *container.Config
}

func knownTag(v string) bool {
	return !strings.Contains(LogSubject{Config: &container.Config{}}.tags().Replace(v), "{{")
}

func (c LogSubject) tags() *strings.Replacer {
	return strings.NewReplacer("{{.ID}}", ident.Short(c.ID), "{{.FullID}}", c.ID, "{{.Name}}", c.Name,
		"{{.ImageName}}", c.Config.Image, "{{.ImageID}}", c.ImageID, "{{.ImageFullID}}", c.ImageID, "{{.DaemonName}}", "docker")
}

// LogAttributes are what the options labels, env and tag add to each line; nil
// if there are none.
func LogAttributes(of LogSubject, log container.LogConfig) map[string]string {
	c := log.Config
	attrs := map[string]string{}
	add := func(names, pattern string, pairs func(func(k, value string))) {
		wanted := strings.Split(c[names], ",")
		re, err := regexp.Compile(c[pattern])
		pairs(func(k, value string) {
			for _, w := range wanted {
				if w != "" && w == k {
					attrs[k] = value
				}
			}
			if err == nil && c[pattern] != "" && re.MatchString(k) {
				attrs[k] = value
			}
		})
	}
	add("labels", "labels-regex", func(f func(string, string)) {
		for k, value := range of.Config.Labels {
			f(k, value)
		}
	})
	add("env", "env-regex", func(f func(string, string)) {
		for _, kv := range of.Config.Env {
			if k, value, ok := strings.Cut(kv, "="); ok {
				f(k, value)
			}
		}
	})
	if tag := c["tag"]; tag != "" {
		attrs["tag"] = of.tags().Replace(tag)
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}
