package main

import (
	"errors"
	"strconv"
)

// defaultRoot is the directory of all containers: on a tmpfs, as it describes
// what does not outlive a boot.
const defaultRoot = "/run/tare-runtime"

var globalFlags = []flag{
	{"debug", "", false, "enable debug logging"},
	{"log", "", true, "set the log file to write logs to (default is '/dev/stderr')"},
	{"log-format", "", true, "set the log format ('text' (default), or 'json')"},
	{"root", "", true, "root directory for storage of container state (this should be located in tmpfs) (default: \"" + defaultRoot + "\")"},
	{"criu", "", true, "refused: there are no checkpoints"},
	{"systemd-cgroup", "", false, "have systemd make the cgroup; expects cgroupsPath to be of form \"slice:prefix:name\""},
	{"rootless", "", true, "'false' or 'auto': without effect; 'true' is refused, as this runtime needs root"},
	{"version", "v", false, "print the version"},
}

// command is one command: its own file tells what it does.
type command struct {
	name, args, usage string
	flags             []flag
	least, most       int // arguments; most -1: any number
	inOrder           bool
	spawns            bool   // starts processes in a container
	prefix            string // of its errors
	run               func(a *app, f values, args []string) (code int, err error)
}

var terminalFlags = []flag{
	{"console-socket", "", true, "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the console's pseudoterminal"},
	{"pid-file", "", true, "specify the file to write the process id to"},
	{"preserve-fds", "", true, "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)"},
}

var bundleFlags = append([]flag{
	{"bundle", "b", true, "path to the root of the bundle directory, defaults to the current directory"},
	{"no-pivot", "", false, "do not use pivot root to jail process inside rootfs: for a rootfs on top of a ramdisk"},
	{"no-new-keyring", "", false, "do not create a new session keyring for the container"},
}, terminalFlags...)

// commands is a function, so that its table costs a start nothing.
func commands() []command {
	return []command{
		{"create", "<container-id>", "create a container", bundleFlags, 1, 1, false, true, "runc create failed: ", runCreate},
		{"delete", "<container-id>", "delete any resources held by the container often used with detached container", []flag{
			{"force", "f", false, "Forcibly deletes the container if it is still running (uses SIGKILL)"}}, 1, 1, false, false, "", runDelete},
		{"events", "<container-id>", "display container events such as OOM notifications, cpu, memory, and IO usage statistics", []flag{
			{"interval", "", true, "set the stats collection interval (default: 5s)"},
			{"stats", "", false, "display the container's stats then exit"}}, 1, 1, false, false, "", runEvents},
		{"exec", "<container-id> <command> [command options]  || -p process.json <container-id>", "execute new process inside the container", execFlags, 1, -1, true, true, "exec failed: ", runExec},
		{"features", "", "show the enabled features", nil, 0, 0, false, false, "", runFeatures},
		{"kill", "<container-id> [signal]", "kill sends the specified signal (default: SIGTERM) to the container's init process", []flag{
			{"all", "a", false, "send the specified signal to all processes inside the container"}}, 1, 2, false, false, "", runKill},
		{"list", "", "lists containers started with the given root", []flag{
			{"format", "f", true, "select one of: table or json"},
			{"quiet", "q", false, "display only container IDs"}}, 0, 0, false, false, "", runList},
		{"pause", "<container-id>", "pause suspends all processes inside the container", nil, 1, 1, false, false, "", runPause},
		{"ps", "<container-id> [ps options]", "ps displays the processes running inside a container", []flag{
			{"format", "f", true, "select one of: table or json"}}, 1, -1, true, false, "", runPs},
		{"resume", "<container-id>", "resumes all processes that have been previously paused", nil, 1, 1, false, false, "", runResume},
		{"run", "<container-id>", "create and run a container", append([]flag{
			{"detach", "d", false, "detach from the container's process"},
			{"keep", "", false, "do not delete the container after it exits"},
			{"no-subreaper", "", false, "disable the use of the subreaper used to reap reparented processes"}}, bundleFlags...), 1, 1, false, true, "runc run failed: ", runRun},
		{"spec", "", "create a new specification file", []flag{
			{"bundle", "b", true, "path to the root of the bundle directory"},
			{"rootless", "", false, "generate a configuration for a rootless container"}}, 0, 0, false, false, "", runSpec},
		{"start", "<container-id>", "executes the user defined process in a created container", nil, 1, 1, false, true, "", runStart},
		{"state", "<container-id>", "output the state of a container", nil, 1, 1, false, false, "", runState},
		{"update", "<container-id>", "update container resource constraints", updateFlags, 1, 1, false, false, "", runUpdate},
	}
}

func commandOf(name string) *command {
	list := commands()
	for i := range list {
		if list[i].name == name {
			return &list[i]
		}
	}
	return nil
}

func (c *command) checkArgs(n int) error {
	what := "runc: " + strconv.Quote(c.name) + " requires "
	switch {
	case c.least == c.most && n != c.least:
		return errors.New(what + "exactly " + strconv.Itoa(c.least) + " argument(s)")
	case n < c.least:
		return errors.New(what + "a minimum of " + strconv.Itoa(c.least) + " argument(s)")
	case c.most >= 0 && n > c.most:
		return errors.New(what + "a maximum of " + strconv.Itoa(c.most) + " argument(s)")
	}
	return nil
}
