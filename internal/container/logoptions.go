package container

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// jsonFileOptions are the options of a json-file log.
type jsonFileOptions struct {
	maxSize  int64 // bytes; 0: without end
	maxFile  int
	compress bool
}

// parseLogOptions reads the options of the log driver json-file. One that
// names neither size nor number gets the defaults: a log without bounds fills
// the disk sooner or later.
func parseLogOptions(c container.LogConfig, maxSize int64, maxFile int) (o jsonFileOptions, err error) {
	size, sized := c.Config["max-size"]
	files, counted := c.Config["max-file"]
	if !sized && !counted {
		o.maxSize, o.maxFile = maxSize, maxFile
	} else {
		o.maxFile = 1
	}
	if sized && size != "-1" {
		if o.maxSize, err = units.FromHumanSize(size); err != nil || o.maxSize <= 0 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option max-size", size)
		}
	}
	if counted {
		if o.maxFile, err = strconv.Atoi(files); err != nil || o.maxFile < 1 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option max-file: max-file cannot be less than 1", files)
		}
		if o.maxFile > 1 && o.maxSize == 0 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid log options: max-file needs max-size")
		}
	}
	if v, ok := c.Config["compress"]; ok {
		if o.compress, err = strconv.ParseBool(v); err != nil {
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

func knownTag(v string) bool {
	return !strings.Contains(tagReplacer(&View{Record: &Record{Config: &container.Config{}}}).Replace(v), "{{")
}

func tagReplacer(v *View) *strings.Replacer {
	return strings.NewReplacer("{{.ID}}", ident.Short(v.ID), "{{.FullID}}", v.ID, "{{.Name}}", v.Name,
		"{{.ImageName}}", v.Config.Image, "{{.ImageID}}", v.Image, "{{.ImageFullID}}", v.Image, "{{.DaemonName}}", "docker")
}

// logAttributes are what the options labels, env and tag add to each line; nil
// if there are none.
func logAttributes(v *View) map[string]string {
	c := v.HostConfig.LogConfig.Config
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
		for k, value := range v.Config.Labels {
			f(k, value)
		}
	})
	add("env", "env-regex", func(f func(string, string)) {
		for _, kv := range v.Config.Env {
			if k, value, ok := strings.Cut(kv, "="); ok {
				f(k, value)
			}
		}
	})
	if tag := c["tag"]; tag != "" {
		attrs["tag"] = tagReplacer(v).Replace(tag)
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}
