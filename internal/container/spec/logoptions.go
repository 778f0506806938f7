package spec

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// LogOptions are the options of a json-file log.
type LogOptions struct {
	MaxSize  int64 // bytes; 0: without end
	MaxFiles int
	Compress bool
}

// ParseLogOptions reads the options of the log driver json-file. One that
// does not name the size gets the default one: a log without bounds fills the
// disk sooner or later.
func ParseLogOptions(c container.LogConfig, maxSize int64, maxFile int) (o LogOptions, err error) {
	size, sized := c.Config["max-size"]
	files, counted := c.Config["max-file"]
	o.MaxFiles = 1
	if !sized {
		o.MaxSize = maxSize
		if !counted {
			o.MaxFiles = maxFile
		}
	}
	if sized && size != "-1" {
		if o.MaxSize, err = units.FromHumanSize(size); err != nil || o.MaxSize <= 0 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option max-size", size)
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

func checkLogKeys(c container.LogConfig) error {
	for k, v := range c.Config {
		switch k {
		case "max-size", "max-file", "compress", "labels", "env", "mode", "max-buffer-size":
		case "labels-regex", "env-regex":
			if _, err := regexp.Compile(v); err != nil {
				return errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option %s: %w", v, k, err)
			}
		case "tag":
			if strings.Contains(v, "{{") && !knownTag(v) {
				return errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option tag: known are {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageName}}, {{.ImageID}}", v)
			}
		default:
			return errdefs.New(errdefs.InvalidArgument, "unknown log opt '%s' for json-file log driver", k)
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
