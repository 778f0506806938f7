package tree

import (
	"sync/atomic"
	"unsafe"

	"github.com/tare-engine/tare/internal/linux/dirat"
)

// Intent is what an operation that changes names has decided on, written down
// before it changes a branch. If the process is killed then, whoever takes over
// calls the operation again with the same intent, which goes on where it was.
//
// The kernel lets nobody else change the names meanwhile, so what is found is
// either the state before, or what this operation has done.
type Intent struct {
	begun   uint64 // the branch that is written to, by its number plus one; written last
	flags   uint64
	n, m    uint64 // nodes of the name, and of one that it replaces
	src     uint64 // the inode number of the name in the branch
	dst     uint64 // that of the name that it replaces
	held    uint64 // a descriptor, plus one, of what loses its last name
	resumed uint64 // the operation is called again
}

const (
	intentWhite   = 1 << iota // a whiteout in the branch is to go
	intentForget              // the inode number of what goes is free
	intentSwap                // a directory with whiteouts is replaced
	intentChanged             // two names change places
)

// IntentAt uses memory that outlives the process. The operation is one that is
// called again if the intent was begun.
func IntentAt(words *[8]uint64) *Intent {
	in := (*Intent)(unsafe.Pointer(words))
	in.resumed = 0
	if in.begun != 0 {
		in.resumed = 1
	}
	return in
}

// orNone makes an intent that nobody can see, if there is none.
func (in *Intent) orNone() *Intent {
	if in == nil {
		return &Intent{}
	}
	return in
}

// note writes down what is about to be done.
func (in *Intent) note(b *Branch, what Intent) {
	atomic.StoreUint64(&in.begun, 0)
	in.flags, in.n, in.m, in.src, in.dst = what.flags, what.n, what.m, what.src, what.dst
	atomic.StoreUint64(&in.begun, b.id+1)
}

// undone says that nothing was done after all.
func (in *Intent) undone() {
	atomic.StoreUint64(&in.begun, 0)
	in.resumed = 0
	in.letGo()
}

// hold notes a descriptor, which the next process has too.
func (in *Intent) hold(fd dirat.FD) {
	if fd >= 0 {
		fd.Inherit()
	}
	in.held = uint64(fd + 1)
}

func (in *Intent) holding() dirat.FD { return dirat.FD(in.held) - 1 }

// letGo closes the descriptor.
func (in *Intent) letGo() {
	fd := in.holding()
	in.held = 0
	fd.Close()
}

// settled closes the descriptor, unless a node has it now.
func (in *Intent) settled(kept bool) {
	if kept {
		in.held = 0
		return
	}
	in.letGo()
}

// Settle closes what a finished operation has left.
func (in *Intent) Settle() { in.letGo() }

// Held is the descriptor that an intent has, or none.
func (in *Intent) Held() dirat.FD { return in.holding() }

// begun is the branch of an operation that is called again, or nil.
func (t *Tree) begun(in *Intent) *Branch {
	if in.resumed == 0 {
		return nil
	}
	return t.branchByID(in.begun - 1)
}

func (t *Tree) branchByID(id uint64) *Branch {
	for _, b := range t.branches {
		if b.id == id {
			return b
		}
	}
	return nil
}
