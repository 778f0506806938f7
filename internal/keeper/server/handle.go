package server

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// handle does what a message asks and answers it. leave gives its place in service
// back early.
func (k *Keeper) handle(s *session, m *wire.Message, leave func()) {
	doc, files, err := k.do(s, m, leave)
	if err != nil {
		doc = wire.ErrorOf(err)
	}
	if doc == nil {
		doc = wire.ErrorDoc{}
	}
	// An engine that has gone asks again by list.
	_ = s.reply(m.Request, doc, files.sent)
	for _, f := range files.sent {
		f.Close()
	}
	if files.after != nil {
		files.after()
	}
}

// parcel is what goes with an answer.
type parcel struct {
	sent  []*os.File // closed afterwards
	after func()     // done once the answer is sent
}

func (k *Keeper) do(s *session, m *wire.Message, leave func()) (doc any, p parcel, err error) {
	switch m.Op {
	case wire.OpStart, wire.OpPark, wire.OpWake:
		return k.starter.do(s, m, leave)
	case wire.OpAttach:
		doc, err = k.doAttach(m)
	case wire.OpList:
		s.settle() // starts that nobody waits for any more are in the list
		return k.doList(m)
	case wire.OpAdopt:
		err = k.orphans.adopt(m)
	case wire.OpHold:
		err = k.hold(m)
	case wire.OpStatus:
		err = k.orphans.takeStatus(m)
	case wire.OpEvict, wire.OpResume, wire.OpResize, wire.OpAck:
		err = k.doSmall(m)
	default:
		err = errdefs.New(errdefs.NotImplemented, "the keeper knows no %v", m.Op)
	}
	return doc, p, err
}

// doSmall are the requests that need an ID and little else.
func (k *Keeper) doSmall(m *wire.Message) error {
	var d wire.IDDoc
	if err := m.Unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	switch m.Op {
	case wire.OpEvict:
		return k.starter.evict(d.ID)
	case wire.OpResume:
		return k.streams.Resume(d.Client)
	case wire.OpResize:
		return k.streams.Resize(d.ID, d.Rows, d.Cols)
	}
	return k.exits.ack(d.ID)
}

func (k *Keeper) doAttach(m *wire.Message) (any, error) {
	var d wire.ClientDoc
	if err := m.Unmarshal(&d); err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	c, rest, err := clientOf(d, m.Payload, m.Take(0))
	if err != nil || len(rest) > 0 {
		return nil, errors.Join(err, errClient)
	}
	id, at, err := k.streams.Attach(d.ID, c)
	if err != nil {
		c.Conn.Close()
		return nil, err
	}
	return wire.AttachReply{Client: id, At: at}, nil
}

var errClient = errdefs.New(errdefs.InvalidArgument, "malformed client")

// clientOf makes the client of the document; its bytes come from the front of
// payload. On error conn is closed.
func clientOf(d wire.ClientDoc, payload []byte, conn *os.File) (wire.Client, []byte, error) {
	b, rest, err := wire.CutBytes(payload, d.Buffered)
	if conn == nil || err != nil {
		if conn != nil {
			conn.Close()
		}
		return wire.Client{}, nil, errors.Join(err, errClient)
	}
	if err := checkClient(conn); err != nil {
		conn.Close()
		return wire.Client{}, nil, err
	}
	return wire.Client{Conn: conn, Buffered: b, Stdin: d.Stdin, Stdout: d.Stdout, Stderr: d.Stderr, DetachKeys: d.DetachKeys, Hold: d.Hold, Status: d.Status, Ends: d.Ends}, rest, nil
}

// checkClient accepts connected unix stream sockets only.
func checkClient(f *os.File) error {
	fd, err := rawfd.Number(f)
	if err == nil {
		err = unixconn.Check(fd)
	}
	return errdefs.As(errdefs.InvalidArgument, err)
}

// doList answers with one page. A page holds as many processes as their
// descriptors and the document have room for.
func (k *Keeper) doList(m *wire.Message) (any, parcel, error) {
	var d wire.ListDoc
	if err := m.Unmarshal(&d); err != nil {
		return nil, parcel{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	var r wire.ListReply
	var p parcel
	size := 0
	for _, item := range k.children.listed(d.After) {
		if size > wire.MaxDoc/2 || len(p.sent) > wire.MaxFiles-8 {
			return r, p, nil
		}
		r.Next = item.id
		if item.exit != nil {
			r.Exits = append(r.Exits, *item.exit)
			size += jsonSize(item.exit)
			continue
		}
		doc := wire.ProcessDoc{Process: *item.process}
		// A process that ends just now is in the exits of a later page or event.
		if f, err := k.streams.Files(doc.ID); err == nil {
			p.sent = append(p.sent, doc.Pack(f)...)
			doc.Orphan = false // adopted by an engine before this one
		}
		r.Processes = append(r.Processes, doc)
		size += jsonSize(doc)
	}
	r.Next = ""
	return r, p, nil
}

func jsonSize(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	return len(b)
}
