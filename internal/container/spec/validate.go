package spec

import (
	"fmt"
	"math"
	"path"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/container/health"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs/remote"
)

const namePattern = "[a-zA-Z0-9][a-zA-Z0-9_.-]"

var nameRegexp = regexp.MustCompile("^" + namePattern + "+$")

// maxName bounds a container's name: it is a host name and a file name.
const maxName = 255

// validName reports whether s can name a container or a volume.
func validName(s string) bool { return len(s) <= maxName && nameRegexp.MatchString(s) }

// ValidateName checks the name that a container is to get.
func ValidateName(name string) error {
	if name == "" {
		return errdefs.New(errdefs.InvalidArgument, "Neither old nor new names may be empty")
	}
	if !validName(name) {
		return BadName(name)
	}
	return nil
}

// BadName is the error of a name that no container can have.
func BadName(name string) error {
	return invalid("Invalid container name (%s), only %s are allowed", shown(name), namePattern)
}

// Validate finds what is wrong with a create request without touching the
// kernel or the image, and fills in the defaults. An empty name means that the
// engine makes one up. The texts are Docker's; so are the warnings, which the
// answer carries.
//
// Nothing that the engine does not do yet passes: such an option is refused by
// name.
func Validate(name string, req *container.CreateRequest, rules MountRules) (warnings []string, err error) {
	if name != "" {
		if err := ValidateName(name); err != nil {
			return nil, err
		}
	}
	if req == nil || req.Config == nil {
		return nil, invalid("config cannot be empty in order to create a container")
	}
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	if err := CheckText(req); err != nil {
		return nil, err
	}
	for _, check := range []func(*container.CreateRequest) error{
		validateConfig, validateHost, validateModes, validateConflicts, validateSecurity, validateNetworking,
		func(r *container.CreateRequest) error { return validateMounts(r.HostConfig, rules) },
		func(r *container.CreateRequest) error { return validateResources(&r.HostConfig.Resources) },
	} {
		if err := check(req); err != nil {
			return nil, err
		}
	}
	applyDefaults(req.HostConfig)
	return warn(req.HostConfig), nil
}

// ValidateUpdate checks the configuration that an update request leads to: the
// limits and the restart policy, which are all that it can change. As with
// Docker a reservation is compared with the limit of the same request only.
func ValidateUpdate(h *container.HostConfig, asked *container.Resources) (warnings []string, err error) {
	if err := CheckText(&h.Resources); err != nil {
		return nil, err
	}
	if err := validateRestart(h); err != nil {
		return nil, err
	}
	merged := h.Resources
	merged.MemoryReservation = 0
	if err := validateResources(&merged); err != nil {
		return nil, err
	}
	if err := validateReservation(asked); err != nil {
		return nil, err
	}
	applyDefaults(h)
	return warn(h), nil
}

func validateMounts(h *container.HostConfig, rules MountRules) error {
	if _, err := Donors(h); err != nil {
		return err
	}
	list, err := mountPoints(h, rules)
	if err == nil {
		err = assignOwners(list, h)
	}
	for i := 0; i < len(list) && err == nil; i++ {
		err = list[i].checkSource()
	}
	return err
}

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, format, args...)
}

// missing refuses an option that is not done yet.
func missing(option string, value any) error {
	return errdefs.New(errdefs.NotImplemented, "%s=%v is not supported yet", option, value)
}

// shown cuts a value that goes into an error text.
func shown(s string) string {
	if len(s) > 200 {
		return s[:200] + "..."
	}
	return s
}

// CheckText walks through all strings of a request. None may contain a NUL
// (the kernel would cut it there) or bytes that are not UTF-8 (the record could
// not keep them).
func CheckText(request any) error { return validateText("", reflect.ValueOf(request)) }

func validateText(at string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return validateText(at, v.Elem())
		}
	case reflect.String:
		return checkText(at, v.String())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return nil
		}
		for i := range v.Len() {
			if err := validateText(fmt.Sprintf("%s[%d]", at, i), v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			key := it.Key()
			if err := validateText(at+" key", key); err != nil {
				return err
			}
			if err := validateText(fmt.Sprintf("%s[%q]", at, shown(key.String())), it.Value()); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			name := at
			if !f.Anonymous {
				name = strings.TrimPrefix(at+"."+f.Name, ".")
			}
			if err := validateText(name, v.Field(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkText(at, s string) error {
	if i := strings.IndexByte(s, 0); i >= 0 {
		return invalid("%s: %q contains a NUL byte", at, shown(s))
	}
	if !utf8.ValidString(s) {
		return invalid("%s: %q is not valid UTF-8", at, shown(s))
	}
	return nil
}

// checkLength refuses a path that no system call takes.
func checkLength(p string) error {
	const maxPath, maxPart = 4095, 255
	if len(p) > maxPath {
		return fmt.Errorf("path '%s' is longer than %d bytes", shown(p), maxPath)
	}
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > maxPart {
			return fmt.Errorf("path '%s' has a name of more than %d bytes: '%s'", shown(p), maxPart, shown(part))
		}
	}
	return nil
}

// Limits of execve: one string, and all together, which the kernel bounds by a
// quarter of the stack's limit, 2 MB usually.
const (
	maxString    = 128 << 10
	maxArguments = 2 << 20
)

func validateConfig(req *container.CreateRequest) error {
	c := req.Config
	if err := validateProgram(append(append([]string{}, c.Entrypoint...), c.Cmd...), c.Env); err != nil {
		return err
	}
	if err := checkWorkingDir(c.WorkingDir); err != nil {
		return err
	}
	if err := validateUser(c.User); err != nil {
		return err
	}
	for field, host := range map[string]string{"hostname": c.Hostname, "domainname": c.Domainname} {
		if len(host) > 64 || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r >= 0x7f }) {
			return invalid("invalid %s: %q", field, shown(host))
		}
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	if c.StopTimeout != nil && (*c.StopTimeout < -1 || *c.StopTimeout > math.MaxInt32) {
		return invalid("invalid stop timeout: %d", *c.StopTimeout)
	}
	if err := ValidateHealth(c.Healthcheck); err != nil {
		return err
	}
	return nil
}

func checkWorkingDir(dir string) error {
	if dir != "" && !path.IsAbs(dir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", shown(dir))
	}
	if err := checkLength(dir); err != nil {
		return invalid("the working directory is invalid: %w", err)
	}
	return nil
}

// ValidateHealth checks a health check, of a request or of an image. Zero is "as
// the image says", nil is none.
func ValidateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if d.d != 0 && d.d < time.Millisecond {
			return invalid("%s in Healthcheck cannot be less than 1ms", d.name)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	return health.Check(h.Test)
}

// validateProgram checks arguments and environment against what an execve
// takes.
func validateProgram(args, env []string) error {
	total := 0
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			if len(s) >= maxString {
				return errdefs.New(errdefs.TooLarge, "argument or variable %q is longer than %d bytes", shown(s), maxString-1)
			}
			total += len(s) + 1 + 8 // its pointer counts too
		}
	}
	if total > maxArguments {
		return errdefs.New(errdefs.TooLarge, "arguments and environment take %d bytes, %d are possible", total, maxArguments)
	}
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == "" {
			return invalid("invalid environment variable: %s", shown(e))
		}
	}
	return nil
}

// validateUser checks numbers of "user:group"; names are looked up at start,
// in the container's root.
func validateUser(user string) error {
	name, group, _ := strings.Cut(user, ":")
	for _, s := range []string{name, group} {
		if _, _, err := parseID(s); err != nil {
			return fmt.Errorf("invalid user %q: %w", shown(user), err)
		}
	}
	if strings.ContainsAny(user, "\n\r") || strings.Count(user, ":") > 1 {
		return invalid("invalid user %q", shown(user))
	}
	return nil
}

func validateRestart(h *container.HostConfig) error {
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	switch {
	case h.RestartPolicy.IsNone():
		return nil
	case h.AutoRemove:
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

func validateHost(req *container.CreateRequest) error {
	h := req.HostConfig
	if err := validateRestart(h); err != nil {
		return err
	}
	switch {
	case h.ShmSize < 0:
		return invalid("SHM size can not be less than 0")
	case h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000:
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	case !h.Isolation.IsValid():
		return invalid("invalid isolation '%s' on %s", h.Isolation, runtime.GOOS)
	case h.Umask != nil && *h.Umask > 0o777:
		return invalid("invalid umask %#o: must be in range 0-0777", *h.Umask)
	case h.ConsoleSize[0] > math.MaxUint16 || h.ConsoleSize[1] > math.MaxUint16:
		return invalid("invalid console size %v", h.ConsoleSize)
	case h.Cgroup != "":
		return missing("Cgroup", h.Cgroup)
	}
	if err := validateOwn(h); err != nil {
		return err
	}
	if err := validateCgroupParent(h.CgroupParent); err != nil {
		return err
	}
	for _, g := range h.GroupAdd {
		if _, _, err := parseID(g); err != nil || g == "" || strings.ContainsAny(g, ":\n") {
			return invalid("invalid group %q", shown(g))
		}
	}
	for k := range h.Annotations {
		if k == "" {
			return invalid("invalid Annotations: the empty string is not permitted as an annotation key")
		}
	}
	return ValidateLog(h.LogConfig)
}

// absentLogDrivers are Docker's that are not offered, and why.
var absentLogDrivers = map[string]string{
	"awslogs": "it needs the client of one cloud", "gcplogs": "it needs the client of one cloud", "splunk": "it needs the client of one product",
	"etwlogs": "it is Windows'",
}

// ValidateLog checks a log driver and its options.
func ValidateLog(l container.LogConfig) error {
	setDefault(&l.Type, "json-file")
	switch _, ok := logDrivers[l.Type]; {
	case l.Type == "none":
		return nil
	case absentLogDrivers[l.Type] != "":
		return errdefs.New(errdefs.NotImplemented, "log driver %s is not offered: %s; there are %s, and a collector may read the files of json-file and local", l.Type,
			absentLogDrivers[l.Type], strings.Join(LogDrivers(), ", "))
	case !ok && !remote.Is(l.Type):
		return invalid("logger: no log driver named '%s' is registered", shown(l.Type))
	}
	mode := container.LogMode(l.Config["mode"])
	if mode != container.LogModeUnset && mode != container.LogModeBlocking && mode != container.LogModeNonBlock {
		return invalid("logger: logging mode not supported: %s", shown(string(mode)))
	}
	if _, ok := l.Config["max-buffer-size"]; ok && mode != container.LogModeNonBlock {
		return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	o, err := ParseLogOptions(l, 1, 2) // our own bounds are bounds
	if err != nil {
		return err
	}
	if o.Compress && o.Format == logfile.Text && o.MaxFiles < 2 {
		if remote.Is(l.Type) {
			return invalid("compression cannot be enabled when max file count is 1: cache-compress is true and cache-max-file 1")
		}
		return invalid("compression cannot be enabled when max file count is 1: log driver local compresses unless compress=false is given")
	}
	if o.Compress && (o.MaxFiles < 2 || o.MaxSize == 0) {
		return invalid("compress cannot be true when max-file is less than 2 or max-size is not set")
	}
	return nil
}

// ValidateExec checks a request for a further process.
func ValidateExec(req *container.ExecCreateRequest) error {
	if len(req.Cmd) == 0 {
		return invalid("No exec command specified")
	}
	if err := CheckText(req); err != nil {
		return err
	}
	if err := checkWorkingDir(req.WorkingDir); err != nil {
		return err
	}
	if s := req.ConsoleSize; s != nil && (s[0] > math.MaxUint16 || s[1] > math.MaxUint16) {
		return invalid("invalid console size %v", *s)
	}
	if err := validateUser(req.User); err != nil {
		return err
	}
	return validateProgram(req.Cmd, req.Env)
}

// warn names what will not work as the user may think, after taking out limits
// that cannot be kept.
func warn(h *container.HostConfig) []string {
	warnings := append([]string{}, discardUnsupported(&h.Resources)...)
	if h.OomKillDisable != nil && *h.OomKillDisable && h.Memory == 0 {
		warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	if h.NetworkMode.IsHost() && len(h.PortBindings) > 0 {
		warnings = append(warnings, "Published ports are discarded when using host network mode")
	}
	return warnings
}
