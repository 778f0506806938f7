package remote

import (
	"regexp"
	"strings"
)

// CheckAttributes refuses options about labels and variables that cannot be.
func CheckAttributes(options map[string]string) error {
	for _, k := range []string{"labels-regex", "env-regex"} {
		if v, ok := options[k]; ok {
			if _, err := regexp.Compile(v); err != nil {
				return invalid("invalid value %q for log option %s: %w", v, k, err)
			}
		}
	}
	return nil
}

// Attributes are the labels and variables that the options labels, labels-regex, env and
// env-regex choose.
func Attributes(options map[string]string, s *Subject) map[string]string {
	attrs := map[string]string{}
	labels := chooser(options["labels"], options["labels-regex"])
	for k, v := range s.Labels {
		if labels(k) {
			attrs[k] = v
		}
	}
	env := chooser(options["env"], options["env-regex"])
	for _, kv := range s.Env {
		if k, v, ok := strings.Cut(kv, "="); ok && env(k) {
			attrs[k] = v
		}
	}
	return attrs
}

// chooser says whether a name is in a list with commas, or matches a pattern.
func chooser(list, pattern string) func(string) bool {
	wanted := map[string]bool{}
	for w := range strings.SplitSeq(list, ",") {
		wanted[w] = w != ""
	}
	re, err := regexp.Compile(pattern)
	return func(k string) bool { return wanted[k] || err == nil && pattern != "" && re.MatchString(k) }
}
