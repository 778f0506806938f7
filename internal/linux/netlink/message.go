// Package netlink speaks rtnetlink, the kernel's protocol for links, addresses,
// routes and neighbours.
//
// Messages are collected in a Batch and sent with one system call; the kernel
// executes them in order and the Conn returns the errors of those that failed:
//
//	c, err := netlink.Open()            // of the calling thread's network namespace
//	var b netlink.Batch
//	b.AddVeth(netlink.Veth{…})
//	b.SetAlias(index, "tare:…")
//	err = c.Do(&b)
//
// A veth with address, routes and neighbours takes two such calls, one on each
// side, about 0.6 ms; a call per message through a general library takes twice
// as long. The kernel does not stop at a failed message: the later ones of a
// batch are executed all the same.
package netlink

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

const headerLen = unix.SizeofNlMsghdr

// Batch is a list of messages in one buffer. The zero value is empty; a batch
// is sent once.
type Batch struct {
	buf   []byte
	ops   []op
	start int   // of the message being written
	nests []int // beginnings of open nested attributes
}

// op is what the batch remembers of a message, for error texts.
type op struct {
	what   string
	ignore []unix.Errno
}

// ignore makes errors of the last message with these numbers count as success.
func (b *Batch) ignore(e ...unix.Errno) {
	b.ops[len(b.ops)-1].ignore = e
}

// begin starts a message of a type. what names the operation in errors.
func (b *Batch) begin(typ, flags int, format string, args ...any) {
	b.start = len(b.buf)
	b.ops = append(b.ops, op{what: lazyf(format, args)})
	b.u32(0) // length, filled in by end
	b.u16(uint16(typ))
	b.u16(uint16(flags | unix.NLM_F_REQUEST | unix.NLM_F_ACK))
	b.u32(uint32(len(b.ops))) // sequence number; Do adds its own base
	b.u32(0)
}

// lazyf formats only if there is something to format.
func lazyf(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	return fmt.Sprintf(format, args...)
}

func (b *Batch) end() {
	b.pad()
	native.PutUint32(b.buf[b.start:], uint32(len(b.buf)-b.start))
}

func (b *Batch) pad() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

func (b *Batch) u8(v ...byte) { b.buf = append(b.buf, v...) }
func (b *Batch) u16(v uint16) { b.buf = native.AppendUint16(b.buf, v) }
func (b *Batch) u32(v uint32) { b.buf = native.AppendUint32(b.buf, v) }

func (b *Batch) attr(t int, v []byte) {
	b.u16(uint16(len(v) + 4))
	b.u16(uint16(t))
	b.buf = append(b.buf, v...)
	b.pad()
}

func (b *Batch) attr32(t int, v uint32) {
	b.u16(8)
	b.u16(uint16(t))
	b.u32(v)
}

func (b *Batch) attrStr(t int, s string) {
	b.u16(uint16(len(s) + 5))
	b.u16(uint16(t))
	b.buf = append(append(b.buf, s...), 0)
	b.pad()
}

func (b *Batch) nest(t int) {
	b.nests = append(b.nests, len(b.buf))
	b.u16(0)
	b.u16(uint16(t))
}

func (b *Batch) endNest() {
	p := b.nests[len(b.nests)-1]
	b.nests = b.nests[:len(b.nests)-1]
	native.PutUint16(b.buf[p:], uint16(len(b.buf)-p))
}

// ifinfo is struct ifinfomsg.
func (b *Batch) ifinfo(index int, flags, change uint32) {
	b.u32(0)
	b.u32(uint32(index))
	b.u32(flags)
	b.u32(change)
}
