package main

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// notDockers are commands and flags of docker 29 (testdata/docker-29.txt, all
// outside Swarm) that are missing here or are otherwise here, and why. A flag is
// "COMMAND --FLAG"; commands that stand in several places are named by one of them.
var notDockers = map[string]string{
	"container create --cpu-count":       "hidden: of Windows only",
	"container create --cpu-percent":     "hidden: of Windows only",
	"container create --io-maxbandwidth": "hidden: of Windows only",
	"container create --io-maxiops":      "hidden: of Windows only",
	"container create --isolation":       "hidden: of Windows only",
	"container create --use-api-socket":  "hidden: refused with what to do instead",
	"image build --cache-from":           "takes whole texts, as buildx does: \"type=local,src=x\" has commas",
	"image build --compress":             "hidden: the files of a build are sent one by one",
	"image build --cpu-period":           legacyBuild,
	"image build --cpu-quota":            legacyBuild,
	"image build --cpu-shares":           legacyBuild,
	"image build --cpuset-cpus":          legacyBuild,
	"image build --cpuset-mems":          legacyBuild,
	"image build --force-rm":             legacyBuild,
	"image build --isolation":            legacyBuild,
	"image build --memory":               legacyBuild,
	"image build --memory-swap":          legacyBuild,
	"image build --platform":             "several may be given, as with buildx",
	"image build --rm":                   legacyBuild,
	"image build --security-opt":         legacyBuild,
	"image build --squash":               legacyBuild,
	"builder prune --keep-storage":       "hidden, as buildx has it: --reserved-space is its new name",
	"volume create --availability":       clusterVolume,
	"volume create --group":              clusterVolume,
	"volume create --limit-bytes":        clusterVolume,
	"volume create --required-bytes":     clusterVolume,
	"volume create --scope":              clusterVolume,
	"volume create --secret":             clusterVolume,
	"volume create --sharing":            clusterVolume,
	"volume create --topology-preferred": clusterVolume,
	"volume create --topology-required":  clusterVolume,
	"volume create --type":               clusterVolume,
	"volume ls --cluster":                clusterVolume,
}

const (
	legacyBuild   = "hidden: of builders before BuildKit"
	clusterVolume = "of Swarm"
)

// TestTreeIsDockers: docker's commands and flags are all here, with their other
// names, their letters, what they take and their defaults.
func TestTreeIsDockers(t *testing.T) {
	t.Setenv("HOME", "/home/user")
	t.Setenv("DOCKER_CONFIG", "")
	ours := treeLines()
	wanted := map[string]bool{}
	for name, line := range dockersTree(t) {
		got, there := ours[name]
		place, why := wantedDifference(name)
		if why != "" {
			wanted[place] = true
			if got == line {
				t.Errorf("%s: is as docker's; it was to differ: %s", name, why)
			}
			continue
		}
		if !there {
			t.Errorf("%s is missing, want %q", name, line)
		} else if got != line {
			t.Errorf("%s: %q, want %q", name, got, line)
		}
	}
	for place := range notDockers {
		if !wanted[place] {
			t.Errorf("%s is to differ, but docker does not have it", place)
		}
	}
}

// wantedDifference finds a flag in notDockers, in the place where it is listed.
func wantedDifference(name string) (place, why string) {
	path, flag, _ := strings.Cut(name, " --")
	for _, same := range [][]string{{"container create", "create", "container run", "run"}, {"image build", "build", "builder build"}} {
		if slices.Contains(same, path) {
			name = same[0] + " --" + flag
		}
	}
	return name, notDockers[name]
}

// dockersTree reads the list of docker's commands and flags: each line by its name.
func dockersTree(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("testdata/docker-29.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := map[string]string{}
	var command string
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if flag, ok := strings.CutPrefix(line, "\t"); ok {
			_, name, _ := strings.Cut(" "+flag, " --")
			name, _, _ = strings.Cut(name, " ")
			lines[command+" --"+name] = flag
			continue
		}
		command, _, _ = strings.Cut(line, ":")
		command = strings.TrimSuffix(command, " (hidden)")
		lines[command] = line
	}
	if len(lines) < 700 {
		t.Fatalf("only %d commands and flags read", len(lines))
	}
	return lines
}

// treeLines describes our commands and flags as that list does.
func treeLines() map[string]string {
	lines := map[string]string{}
	var walk func(cmd *cobra.Command, name string)
	walk = func(cmd *cobra.Command, name string) {
		line := name
		if cmd.Hidden {
			line += " (hidden)"
		}
		if len(cmd.Aliases) > 0 {
			line += ": " + strings.Join(slices.Sorted(slices.Values(cmd.Aliases)), " ")
		}
		lines[name] = line
		cmd.Flags().VisitAll(func(f *pflag.Flag) { lines[name+" --"+f.Name] = flagLine(f) })
		for _, sub := range cmd.Commands() {
			walk(sub, strings.TrimPrefix(name+" "+sub.Name(), "docker "))
		}
	}
	walk(newRootCommand(&cli{in: os.Stdin, out: os.Stdout, err: os.Stderr, tree: commands}, nil), "docker")
	return lines
}

// flagLine is "-f --filter filter = default (hidden)".
func flagLine(f *pflag.Flag) string {
	line := "--" + f.Name
	if f.Shorthand != "" {
		line = "-" + f.Shorthand + " " + line
	}
	if f.NoOptDefVal == "" {
		line += " " + f.Value.Type()
	}
	def := strings.ReplaceAll(f.DefValue, "/home/user", "~")
	if def != "" && def != "false" && def != "0" && def != "[]" {
		line += " = " + def
	}
	if f.Hidden {
		line += " (hidden)"
	}
	return line
}
