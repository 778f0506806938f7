package spawn

// cloneRun calls clone3; the child runs the plan whose header is at plan. It
// returns only in the parent.
func cloneRun(args, size, plan uintptr) (pid, errno uintptr)

// interpret runs plans. It is never called from Go.
//
//lint:ignore U1000 cloneRun jumps to it
func interpret()

// cloneRunEnd marks where the interpreter ends. It is never called.
//
//lint:ignore U1000 its address is taken in assembly
func cloneRunEnd()

// codeRange is where the interpreter lies.
func codeRange() (lo, hi uintptr)

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// Clone flags of clone3 that have no room in clone's 32 bits.
const (
	cloneClearSighand = 1 << 32
	cloneIntoCgroup   = 1 << 33
)
