package mnt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/unixconn"
	"github.com/tare-engine/tare/internal/union"
)

// Commands of the program that serves: by them Open starts Opened, and this and Mount
// start Serve.
const (
	OpenVerb  = "open"
	ServeVerb = "serve"
)

// unmapped stands for IDs without a namespace, else there is IDs.From.
const unmapped = "unmapped"

// Descriptors of the program that Open starts.
const (
	fdMount  = 3 + iota // a socket, for the mount
	fdUserNS            // if ids are mapped
)

// Open makes a union that is mounted nowhere yet, and says its ID; the caller
// closes it. Branches are directories by their real paths. The server is no child of the caller, and
// outlives it: it ends with the last mount of the file system.
func Open(ctx context.Context, program string, c union.Config, ids IDs) (m *os.File, id string, err error) {
	a, b, err := unixconn.Pair()
	if err != nil {
		return nil, "", err
	}
	ours, theirs := os.NewFile(uintptr(a), "socket"), os.NewFile(uintptr(b), "socket")
	defer ours.Close()
	files, mapped := []*os.File{theirs}, unmapped
	if ids.NS != nil {
		files, mapped = append(files, ids.NS), strconv.Itoa(ids.From)
	}
	cmd := exec.CommandContext(ctx, program, append([]string{OpenVerb, mapped}, c.Args()...)...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = files
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	theirs.Close()
	if err != nil {
		if s := strings.TrimSpace(said.String()); s != "" {
			err = errors.New(strings.TrimPrefix(s, "tare-union: "))
		}
		return nil, "", err
	}
	fd, err := unixconn.ReceiveFD(int(ours.Fd()))
	if err != nil {
		return nil, "", fmt.Errorf("%s has sent no mount: %w", program, err)
	}
	return os.NewFile(uintptr(fd), "union"), strings.TrimSpace(out.String()), nil
}

// Opened is the program that Open starts, with the words behind the verb.
func Opened(args []string) error {
	var st syscall.Stat_t
	if len(args) < 1 || syscall.Fstat(fdMount, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return errors.New(OpenVerb + " is started by an engine only")
	}
	var ids IDs
	if args[0] != unmapped {
		var err error
		if ids.From, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
		ids.NS = os.NewFile(fdUserNS, "user namespace")
	}
	c, err := union.FromArgs(args[1:])
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	m, id, err := serve(self, c, ids)
	if err != nil {
		return err
	}
	defer m.Close()
	fmt.Println(id)
	return unixconn.SendFD(fdMount, int(m.Fd()))
}
