package mount

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// words are the options of mount(8) that are flags of mount(2), and those that take
// a flag away.
var words = map[string]struct {
	clear bool
	flag  uintptr
}{
	"defaults": {}, "async": {true, unix.MS_SYNCHRONOUS}, "sync": {false, unix.MS_SYNCHRONOUS},
	"atime": {true, unix.MS_NOATIME}, "noatime": {false, unix.MS_NOATIME},
	"diratime": {true, unix.MS_NODIRATIME}, "nodiratime": {false, unix.MS_NODIRATIME},
	"relatime": {false, unix.MS_RELATIME}, "norelatime": {true, unix.MS_RELATIME},
	"strictatime": {false, unix.MS_STRICTATIME}, "nostrictatime": {true, unix.MS_STRICTATIME},
	"bind": {false, unix.MS_BIND}, "rbind": {false, unix.MS_BIND | unix.MS_REC},
	"dev": {true, unix.MS_NODEV}, "nodev": {false, unix.MS_NODEV},
	"exec": {true, unix.MS_NOEXEC}, "noexec": {false, unix.MS_NOEXEC},
	"suid": {true, unix.MS_NOSUID}, "nosuid": {false, unix.MS_NOSUID},
	"ro": {false, unix.MS_RDONLY}, "rw": {true, unix.MS_RDONLY},
	"mand": {false, unix.MS_MANDLOCK}, "nomand": {true, unix.MS_MANDLOCK},
	"dirsync": {false, unix.MS_DIRSYNC}, "remount": {false, unix.MS_REMOUNT},
	"private": {false, unix.MS_PRIVATE}, "rprivate": {false, unix.MS_PRIVATE | unix.MS_REC},
	"shared": {false, unix.MS_SHARED}, "rshared": {false, unix.MS_SHARED | unix.MS_REC},
	"slave": {false, unix.MS_SLAVE}, "rslave": {false, unix.MS_SLAVE | unix.MS_REC},
	"unbindable": {false, unix.MS_UNBINDABLE}, "runbindable": {false, unix.MS_UNBINDABLE | unix.MS_REC},
}

// propagationFlags make a call of mount(2) of their own.
const propagationFlags = unix.MS_PRIVATE | unix.MS_SHARED | unix.MS_SLAVE | unix.MS_UNBINDABLE

// Classic mounts a file system as mount(8) would, by the older call: every type of
// the kernel knows its options in the one string that this call takes. options are
// separated by commas. The path target is trusted.
func Classic(device, target, fstype, options string) error {
	var flags uintptr
	var data []string
	for o := range strings.SplitSeq(options, ",") {
		w, known := words[o]
		switch {
		case o == "":
		case !known:
			data = append(data, o)
		case w.clear:
			flags &^= w.flag
		default:
			flags |= w.flag
		}
	}
	text := strings.Join(data, ",")
	if err := classic(device, target, fstype, flags, text); err != nil {
		return classicError(device, target, flags, text, err)
	}
	return nil
}

func classic(device, target, fstype string, flags uintptr, data string) error {
	propagation := flags & propagationFlags
	first := flags &^ propagationFlags
	if flags&unix.MS_BIND == 0 {
		first &^= unix.MS_REC
	}
	if err := unix.Mount(device, target, fstype, first, data); err != nil {
		return err
	}
	// The first call of a bind takes no other flags.
	if rest := first &^ (unix.MS_BIND | unix.MS_REC); flags&unix.MS_BIND != 0 && rest != 0 {
		if err := unix.Mount("", target, "", rest|unix.MS_BIND|unix.MS_REMOUNT, data); err != nil {
			unix.Unmount(target, unix.MNT_DETACH)
			return err
		}
	}
	if propagation == 0 {
		return nil
	}
	if err := unix.Mount("", target, "", propagation|flags&unix.MS_REC, ""); err != nil {
		unix.Unmount(target, unix.MNT_DETACH)
		return err
	}
	return nil
}

// classicError is worded as Docker's clients know it.
func classicError(device, target string, flags uintptr, data string, err error) error {
	what := "mount " + device + ":" + target
	if flags != 0 {
		what += fmt.Sprintf(", flags: 0x%x", flags)
	}
	if data != "" {
		what += ", data: " + data
	}
	return fmt.Errorf("%s: %w", what, err)
}
