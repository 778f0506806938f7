// Package keeper is the engine's way to talk to the process that parents
// containers, which this comment describes. Its program is package server.
//
// The keeper (cmd/tare-keeper) runs plans (package spawn), waits, owns stdio,
// writes logs and exit records. It decides nothing and knows no images,
// networks or HTTP; it stays when the engine is killed or upgraded, and is
// upgraded itself by an exec in place. One keeper serves one engine.
//
//	conn, err := keeper.Dial(ctx, keeper.SocketPath(root), hello, events)
//	p, err := conn.Start(ctx, keeper.Start{ID: id, Plan: plan.Image(), …})
//	… events.Exited(exit) …
//	err = conn.Ack(ctx, id) // the engine has recorded the exit
//
// # Files
//
//	EXECROOT/keeper/          0700
//	  keeper.sock  0600       root of the keeper's own namespaces only
//	  lock                    one keeper for an exec root
//	  log                     of a keeper started by Spawn
//	EXECROOT/live/ID/         as long as a process is there
//	  stdout stderr           its FIFOs; standard input is a pipe without a name
//	  pid                     what the child itself wrote before its plan began
//	  process.json            pid and start time, for a next keeper
//	EXECROOT/exits/ID.json    until the engine acknowledges
//
// # A start
//
// The request brings a plan and descriptors. The keeper validates the plan,
// copies it into an arena, makes the FIFOs, has a nursery clone the child,
// holds its mount namespace and waits for end of file on the report pipe: the
// exec. A plan that fails is answered with step and errno (StepError) when the
// child is reaped and nothing of it is left. Handlers run beside each other;
// no goroutine and no thread stays behind for a process that runs.
//
// # An exit
//
// One loop waits for all children. What pipes still hold goes to log and
// clients, then exits/ID.json is written, then the engine is told; only then
// the mount namespace is dropped, which may take a disk's time. Exits that no
// engine has acknowledged are kept, over any number of engines and keepers.
//
// # Deaths
//
// The engine dies: nothing changes; a new one dials and asks for the list. The
// keeper dies: nurseries and parked children end with it, a child whose plan
// has not begun ends too, all others run on. The next keeper finds them in
// live/, and the engine hands over its duplicates of their streams (Adopt).
// They are orphans then, see server/orphan.go for their exit status.
//
// # Upgrades
//
// An engine whose keeper runs another program than the one it would start asks
// for an upgrade before it connects (Renewal): the keeper lets starts in flight
// end, for ten seconds at most, ends the nurseries, stops reading and reaping,
// and executes the program that came with the request. State that is not in
// descriptors or files goes along in a memory file. If any of this fails, all
// goes on as before. The new program answers the request; if it cannot take the
// state over, it executes the program before it again. A keeper that is killed
// at any moment of it leaves what a killed keeper leaves.
//
// # Host ports
//
// The engine reserves published ports by sockets. A start brings them along,
// and the keeper holds duplicates until the exit, closed before that is
// told. An engine that was killed gets them back (HeldPorts) before it
// connects; a new keeper is given the engine's (Hold).
//
// # Packages
//
//	keeper    the engine's side: Dial, Start, List, Adopt, Renewal …
//	wire      protocol: framing, documents, what both sides speak of
//	server    the keeper's side, and its program
//	stream    standard input and output of processes, attached clients, log
//	nursery   who clones
//	reaper    who waits for children
//	orphan    who waits for processes of an earlier keeper
//	rundir    what the next keeper finds
//
// # Protocol
//
// SEQPACKET messages, see package wire: an operation, a JSON document to which
// fields are only ever added, a payload, descriptors. Peers must have our uid
// and live in our PID and user namespace. Each side names its version; one that
// is too old to be talked to is told so.
package keeper
