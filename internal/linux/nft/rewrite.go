package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Output is where packets of the host itself pass.
var Output = Hook{nftables.ChainTypeFilter, nftables.ChainHookOutput}

// Port is one of the two ports of a packet.
type Port struct{ offset uint32 }

// The ports: whose packet it is, and for whom.
var (
	SrcPort = Port{0}
	DstPort = Port{portOffset}
)

// Is matches packets of a protocol (tcp, udp) that have this port.
func (p Port) Is(proto string, port uint16) (Statement, error) {
	number, err := protocol(proto)
	if err != nil {
		return nil, err
	}
	return Statement{
		meta(expr.MetaKeyL4PROTO), cmp(expr.CmpOpEq, []byte{number}),
		load(expr.PayloadBaseTransportHeader, p.offset, 2, reg), cmp(expr.CmpOpEq, bigEndian(port)),
	}, nil
}

// Set writes another port into the packet. Nothing remembers it: what comes back has
// to be rewritten by a rule of its own.
func (p Port) Set(proto string, port uint16) (Statement, error) {
	checksum := map[string]uint32{"udp": 6, "tcp": 16} // where it is in the header
	at, known := checksum[proto]
	if !known {
		_, err := protocol(proto)
		return nil, err
	}
	return Statement{
		&expr.Immediate{Register: reg, Data: bigEndian(port)},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: p.offset, Len: 2,
			CsumType: expr.CsumTypeInet, CsumOffset: at,
		},
	}, nil
}

func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
