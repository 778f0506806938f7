package keeper

import (
	"encoding/json"
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
)

// handle does what a message asks and answers it.
func (k *Keeper) handle(s *session, m *message) {
	doc, files, err := k.do(s, m)
	if err != nil {
		doc = errorOf(err)
	}
	if doc == nil {
		doc = errorDoc{}
	}
	// An engine that has gone asks again by list.
	_ = s.reply(m.request, doc, files.sent)
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

func (k *Keeper) do(s *session, m *message) (doc any, p parcel, err error) {
	switch m.op {
	case opStart, opPark, opWake:
		return k.doStart(s, m)
	case opAttach:
		doc, err = k.doAttach(m)
	case opList:
		s.settle() // starts that nobody waits for any more are in the list
		return k.doList(m)
	case opAdopt:
		err = k.doAdopt(m)
	case opStatus:
		err = k.doStatus(m)
	case opEvict, opResume, opResize, opCloseStdin, opAck:
		err = k.doSmall(m)
	default:
		err = errdefs.New(errdefs.NotImplemented, "the keeper knows no %v", m.op)
	}
	return doc, p, err
}

// doSmall are the requests that need an ID and little else.
func (k *Keeper) doSmall(m *message) error {
	var d idDoc
	if err := m.unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	switch m.op {
	case opEvict:
		return k.evict(d.ID)
	case opResume:
		return k.streams.resume(d.Client)
	case opResize:
		return k.streams.resize(d.ID, d.Rows, d.Cols)
	case opCloseStdin:
		return k.streams.closeStdin(d.ID)
	}
	return k.ack(d.ID)
}

func (k *Keeper) doAttach(m *message) (any, error) {
	var d clientDoc
	if err := m.unmarshal(&d); err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	c, rest, err := d.client(m.payload, m.take(0))
	if err != nil || len(rest) > 0 {
		return nil, errors.Join(err, errClient)
	}
	id, at, err := k.streams.attach(d.ID, c)
	if err != nil {
		c.Conn.Close()
		return nil, err
	}
	return attachReply{id, at}, nil
}

var errClient = errdefs.New(errdefs.InvalidArgument, "malformed client")

// client makes the client of the document; its bytes come from the front of
// payload.
func (d clientDoc) client(payload []byte, conn *os.File) (Client, []byte, error) {
	b, rest, err := cutBytes(payload, d.Buffered)
	if conn == nil || err != nil {
		if conn != nil {
			conn.Close()
		}
		return Client{}, nil, errors.Join(err, errClient)
	}
	if err := checkClient(conn); err != nil {
		conn.Close()
		return Client{}, nil, err
	}
	return Client{Conn: conn, Buffered: b, Stdin: d.Stdin, Stdout: d.Stdout, Stderr: d.Stderr, DetachKeys: d.DetachKeys, Hold: d.Hold, Status: d.Status}, rest, nil
}

// doList answers with one page. A page holds as many processes as their
// descriptors and the document have room for.
func (k *Keeper) doList(m *message) (any, parcel, error) {
	var d listDoc
	if err := m.unmarshal(&d); err != nil {
		return nil, parcel{}, errdefs.As(errdefs.InvalidArgument, err)
	}
	var r listReply
	var p parcel
	size := 0
	for _, item := range k.listed(d.After) {
		if size > maxDoc/2 || len(p.sent) > maxFiles-8 {
			return r, p, nil
		}
		r.Next = item.id
		if item.exit != nil {
			r.Exits = append(r.Exits, *item.exit)
			size += jsonSize(item.exit)
			continue
		}
		doc := processDoc{Process: *item.process}
		// A process that ends just now is in the exits of a later page or event.
		if f, err := k.streams.files(doc.ID); err == nil {
			p.sent = append(p.sent, doc.pack(f)...)
		}
		r.Processes = append(r.Processes, doc)
		size += jsonSize(doc)
	}
	r.Next = ""
	return r, p, nil
}

// pack notes which files there are and returns those.
func (d *processDoc) pack(f Files) (there []*os.File) {
	for i, x := range f.list() {
		if d.Streams[i] = x != nil; x != nil {
			there = append(there, x)
		}
	}
	return there
}

// unpack takes the files that pack noted from the front of files.
func (d *processDoc) unpack(files []*os.File) (rest []*os.File, err error) {
	for i, to := range []**os.File{&d.Stdin, &d.Stdout, &d.Stderr, &d.Master} {
		if !d.Streams[i] {
			continue
		}
		if len(files) == 0 {
			return nil, errdefs.New(errdefs.InvalidArgument, "process %s came without its streams", d.ID)
		}
		*to, files = files[0], files[1:]
	}
	return files, nil
}

func jsonSize(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	return len(b)
}
