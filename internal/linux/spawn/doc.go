// Package spawn makes child processes from plans.
//
// A plan is a flat list of raw system calls: number, up to six arguments,
// "keep the result in slot k", "this errno counts as success". Pure Go code
// builds it ([Plan]), so plans can be printed, compared in tests and sent to
// another process as a relocatable [Image]. The new child executes the list by
// a few lines of assembly that know nothing else and that use neither Go's
// stack nor its runtime; the list ends in execve of the user's program.
//
//	p := spawn.NewPlan()
//	p.Do("sethostname", spawn.SysSethostname, p.Str("web"), spawn.Int(3))
//	p.Do("setns", spawn.SysSetns, spawn.FD(0), spawn.Int(cloneNewNet))
//	p.Exec("nginx", "/usr/sbin:/usr/bin", argv, env)
//
// A plan has no conditions, so it checks nothing: whoever builds it opens and
// verifies everything in Go and passes descriptors.
//
// # Life of a child
//
// The memory of all plans is a [Region]: a sealed memfd cut into arenas. A
// [Slab] is one arena in use. A [Nursery] is a tiny single-threaded fork of
// the keeper that has unmapped everything but the interpreter and the region;
// it loops: receive a slab's address and descriptors, clone a child of the
// keeper that runs the slab's plan, answer with its pid. The child has its own
// memory, a mapping of its own arena only, and the descriptors 0 to 3 of the
// nursery and 4, 5, 6 … as received.
//
//	3  the nursery's command socket (close-on-exec)
//	4  report pipe: end of file is a successful execve, 16 bytes are errno and step
//	5  stdin; with a terminal, the socket that takes the pty's master
//	6  stdout   7  stderr
//	8… the plan's own descriptors: FD(0), FD(1), …
//
// A nursery can join a user namespace first ([Region.NewNurseryIn]): what the
// kernel makes for its children then belongs to that namespace.
//
// A child can also park ([Plan.ParkStep]): it waits on a socket for a second
// plan, which is put into the upper part of the same arena, and for new
// descriptors, which get the numbers 4, 5, 6 … again. And a child can be the
// first half of a pair ([Plan.CloneSecond]): outside a PID namespace it takes
// on all that the program must be, then clones the second half into the
// namespace, which has nothing left to do but execve.
package spawn
