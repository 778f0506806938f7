package dm

import (
	"bytes"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel answers a bad table with a number; its log has the words.
//
//	device-mapper: table: 253:20: crypt: Invalid iv_offset sector (-EINVAL)

// maxReasons bounds how much of the log is read.
const maxReasons = 256

// kernelLog remembers where the kernel's log ends; the function that it returns has
// what has come since. Where the log cannot be read there is nothing.
func kernelLog() func() []string {
	none := func() []string { return nil }
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return none
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		unix.Close(fd)
		return none
	}
	return func() []string {
		defer unix.Close(fd)
		var lines []string
		buf := make([]byte, 8192)
		for range maxReasons {
			n, err := unix.Read(fd, buf)
			if err == unix.EPIPE { // what was next is overwritten
				continue
			}
			if err != nil {
				break
			}
			if _, line, ok := bytes.Cut(buf[:n], []byte{';'}); ok {
				first, _, _ := bytes.Cut(line, []byte{'\n'})
				lines = append(lines, string(first))
			}
		}
		return lines
	}
}

// reason finds, in lines of the log, what is about a device's table.
func reason(lines []string, dev Dev) string {
	var found []string
	for _, l := range lines {
		if r, ok := strings.CutPrefix(l, "device-mapper: table: "+dev.String()+": "); ok {
			found = append(found, r)
		}
	}
	return strings.Join(found, "; ")
}
