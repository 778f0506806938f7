package mount

import "golang.org/x/sys/unix"

// Flags and commands of the raw system calls, for those who put them into a
// list of calls (see package spawn) instead of making them.
const (
	TreeClone   = unix.OPEN_TREE_CLONE
	TreeCloexec = unix.OPEN_TREE_CLOEXEC
	EmptyPath   = unix.AT_EMPTY_PATH
	Recursive   = unix.AT_RECURSIVE

	MoveFromFD = unix.MOVE_MOUNT_F_EMPTY_PATH
	MoveToFD   = unix.MOVE_MOUNT_T_EMPTY_PATH

	FSOpenCloexec  = unix.FSOPEN_CLOEXEC
	FSMountCloexec = unix.FSMOUNT_CLOEXEC
	FSSetFlag      = unix.FSCONFIG_SET_FLAG
	FSSetString    = unix.FSCONFIG_SET_STRING
	FSSetFD        = unix.FSCONFIG_SET_FD
	FSCreate       = unix.FSCONFIG_CMD_CREATE

	DetachFlag = unix.MNT_DETACH
	MoveFlag   = unix.MS_MOVE
	recFlag    = unix.MS_REC
)

// AttrSize is the size of the attribute structure that mount_setattr takes:
// set, clear, propagation and user namespace, eight bytes each.
const AttrSize = unix.MOUNT_ATTR_SIZE_VER0

// PropagationFlags are the flags with which mount(2) changes the propagation.
func PropagationFlags(p Propagation, recursive bool) uint64 {
	if recursive {
		return uint64(p) | recFlag
	}
	return uint64(p)
}
