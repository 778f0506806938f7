package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/subrequests"
	"github.com/moby/buildkit/frontend/subrequests/lint"
	"github.com/moby/buildkit/frontend/subrequests/outline"
	"github.com/moby/buildkit/frontend/subrequests/targets"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

// call is what the frontend is asked about a Dockerfile instead of building it.
type call struct {
	method       string // without "frontend."; "": to build
	json         bool
	ignoreStatus bool // end well whatever is found
}

// parseCall reads METHOD[,format=json][,ignorestatus=BOOL].
func parseCall(s string) (c call, err error) {
	if s == "" {
		return c, nil
	}
	for field := range strings.SplitSeq(s, ",") {
		key, value, pair := strings.Cut(field, "=")
		switch {
		case !pair && c.method != "":
			return c, fmt.Errorf("invalid print value: %s", s)
		case !pair:
			c.method = field
		case key == "format":
			c.json = value == "json"
		case key == "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(value); err != nil {
				return c, fmt.Errorf("invalid ignorestatus print value: %s: %w", value, err)
			}
		default:
			return c, fmt.Errorf("invalid print field: %s", field)
		}
	}
	switch c.method {
	case "check":
		c.method = "lint"
	case "build":
		c.method = ""
	}
	return c, nil
}

// ask makes of the frontend's options a question.
func (c call) ask(attrs map[string]string) {
	caps := "moby.buildkit.frontend.subrequests+forward"
	if v := attrs["frontend.caps"]; v != "" {
		caps = v + "," + caps
	}
	attrs["frontend.caps"], attrs["requestid"] = caps, "frontend."+c.method
}

// statusError is an exit status that what was said has given the reason of.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// print writes the answer, in buildx's words. dockerfile is where the Dockerfile is, for
// the reader.
func (c call) print(w io.Writer, res map[string]string, dockerfile string) error {
	if err := c.printAnswer(w, res, dockerfile); err != nil {
		return err
	}
	if n, err := strconv.Atoi(res["result.statuscode"]); err == nil && n != 0 && !c.ignoreStatus {
		return statusError(n)
	}
	return nil
}

func (c call) printAnswer(w io.Writer, res map[string]string, dockerfile string) error {
	doc := res["result.json"]
	known := map[string]struct {
		print func([]byte, io.Writer) error
		def   subrequests.Request
	}{
		"outline":              {outline.PrintOutline, outline.SubrequestsOutlineDefinition},
		"targets":              {targets.PrintTargets, targets.SubrequestsTargetsDefinition},
		"subrequests.describe": {subrequests.PrintDescribe, subrequests.SubrequestsDescribeDefinition},
	}
	k, ok := known[c.method]
	switch {
	case c.json && doc != "":
		fmt.Fprintln(w, doc)
		if c.method == "lint" {
			return lintError(doc, named(dockerfile))
		}
	case c.method == "lint":
		return printLint(w, doc, dockerfile)
	case ok && (res["version"] == "" || !later(res["version"], k.def.Version)):
		return k.print([]byte(doc), w)
	case res["result.txt"] != "":
		fmt.Fprint(w, res["result.txt"])
	default:
		return fmt.Errorf("the frontend does not answer to %s", c.method)
	}
	return nil
}

// later reports whether a version, of numbers and dots, comes after another.
func later(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		n, _ := strconv.Atoi(x[i])
		m, _ := strconv.Atoi(y[i])
		if n != m {
			return n > m
		}
	}
	return len(x) > len(y)
}

// printLint writes what a check has found.
func printLint(w io.Writer, doc, dockerfile string) error {
	var found lint.LintResults
	if err := json.Unmarshal([]byte(doc), &found); err != nil {
		return fmt.Errorf("read the frontend's answer: %w", err)
	}
	switch n := len(found.Warnings); {
	case n == 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case n > 1:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	}
	if err := found.PrintTo(w, named(dockerfile)); err != nil {
		return err
	}
	if found.Error != nil {
		if len(found.Warnings) > 0 {
			fmt.Fprintln(w)
		}
		return lintError(doc, named(dockerfile))
	}
	if len(found.Warnings) == 0 {
		fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	return nil
}

// named calls a Dockerfile what it is called where the reader is.
func named(dockerfile string) lint.SourceInfoMap {
	return func(info *pb.SourceInfo) *pb.SourceInfo {
		if info == nil || dockerfile == "" {
			return info
		}
		info = proto.Clone(info).(*pb.SourceInfo)
		info.Filename = dockerfile
		return info
	}
}

// lintError is the error that a check has found, with the lines where it is.
func lintError(doc string, where lint.SourceInfoMap) error {
	var found lint.LintResults
	if err := json.Unmarshal([]byte(doc), &found); err != nil || found.Error == nil {
		return err
	}
	var text strings.Builder
	found.PrintErrorTo(&text, where)
	return errors.New(text.String())
}
