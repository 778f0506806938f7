package spec

import (
	"maps"
	"slices"
	"strconv"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs/remote"
)

// LogOptions are the options of a log that the engine keeps.
type LogOptions struct {
	MaxSize  int64 // bytes; 0: without end
	MaxFiles int
	Compress bool
	Format   logfile.Format
}

// logDrivers are those that keep logs here, with their options beside commonLogOptions;
// package remote has the others.
var logDrivers = map[string][]string{
	"json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
	"local":     {"max-size", "max-file", "compress"},
	"none":      nil,
}

// commonLogOptions are those of all drivers.
var commonLogOptions = []string{"mode", "max-buffer-size"}

// cacheLogOptions are of what is kept here of a log that goes elsewhere.
var cacheLogOptions = []string{"cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

// LogDrivers are the names of the log drivers that there are.
func LogDrivers() []string {
	return slices.Sorted(slices.Values(append(remote.Drivers(), slices.Collect(maps.Keys(logDrivers))...)))
}

// LogFormat is how a log driver's files are written.
func LogFormat(driver string) logfile.Format {
	if driver == "local" || remote.Is(driver) {
		return logfile.Text
	}
	return logfile.JSON
}

// LogReadable reports whether clients may read the log.
func LogReadable(c container.LogConfig) bool {
	disabled, err := strconv.ParseBool(c.Config["cache-disabled"])
	return c.Type != "none" && (err != nil || !disabled || !remote.Is(c.Type))
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

// ParseLogOptions reads the options about the files of a log. A log of
// json-file that does not name the size gets the default one: a log without bounds
// fills the disk sooner or later. Local has bounds of its own, which are Docker's.
func ParseLogOptions(c container.LogConfig, maxSize int64, maxFile int) (o LogOptions, err error) {
	prefix := ""
	if remote.Is(c.Type) {
		prefix = "cache-"
	}
	size, sized := c.Config[prefix+"max-size"]
	files, counted := c.Config[prefix+"max-file"]
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
		if o.MaxSize, err = parseLogSize(prefix+"max-size", size, o.Format); err != nil {
			return o, err
		}
	}
	if counted {
		if o.MaxFiles, err = strconv.Atoi(files); err != nil || o.MaxFiles < 1 {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option %smax-file: max-file cannot be less than 1", files, prefix)
		}
	}
	if v, ok := c.Config[prefix+"compress"]; ok {
		if o.Compress, err = strconv.ParseBool(v); err != nil {
			return o, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option %scompress", v, prefix)
		}
	} else if prefix != "" && o.MaxFiles < 2 {
		o.Compress = false
	}
	return o, checkLogKeys(c)
}

// parseLogSize reads max-size, which is -1 of a log of json-file without bounds.
func parseLogSize(option, size string, f logfile.Format) (int64, error) {
	if size == "-1" && f == logfile.JSON {
		return 0, nil
	}
	n, err := units.FromHumanSize(size)
	if err != nil || n <= 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option %s", size, option)
	}
	return n, nil
}

func checkLogKeys(c container.LogConfig) error {
	if remote.Is(c.Type) {
		return checkRemote(c)
	}
	for _, k := range sortedKeysOf(c.Config) {
		if !slices.Contains(commonLogOptions, k) && !slices.Contains(logDrivers[c.Type], k) {
			return errdefs.New(errdefs.InvalidArgument, "unknown log opt '%s' for %s log driver", k, c.Type)
		}
	}
	if _, err := remote.Tag(c.Config, "", &remote.Subject{}); err != nil {
		return err
	}
	return remote.CheckAttributes(c.Config)
}

// checkRemote checks what a driver that sends logs elsewhere is told.
func checkRemote(c container.LogConfig) error {
	own := maps.Clone(c.Config)
	maps.DeleteFunc(own, func(k, _ string) bool {
		return slices.Contains(commonLogOptions, k) || slices.Contains(cacheLogOptions, k)
	})
	if v, ok := c.Config["cache-disabled"]; ok {
		if _, err := strconv.ParseBool(v); err != nil {
			return errdefs.New(errdefs.InvalidArgument, "invalid value %q for log option cache-disabled", v)
		}
	}
	if err := remote.CheckAttributes(own); err != nil {
		return err
	}
	return remote.Check(c.Type, own)
}

// LogAttributes are what the options labels, env and tag add to each line of a log that is
// kept here; nil if there are none.
func LogAttributes(of *remote.Subject, log container.LogConfig) map[string]string {
	if remote.Is(log.Type) {
		return nil
	}
	attrs := remote.Attributes(log.Config, of)
	if tag, err := remote.Tag(log.Config, "", of); err == nil && tag != "" {
		attrs["tag"] = tag
	}
	if len(attrs) == 0 {
		return nil
	}
	return attrs
}
