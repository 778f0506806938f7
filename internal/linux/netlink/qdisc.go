package netlink

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// From the kernel's headers pkt_sched.h, pkt_cls.h and tc_act/tc_mirred.h.
const (
	handleRoot    = 0xffffffff // TC_H_ROOT
	handleIngress = 0xfffffff1 // TC_H_INGRESS
	ingressHandle = 0xffff0000 // of the one queue there

	tbfParms, tbfRate64, tbfBurst    = 1, 4, 6    // TCA_TBF_*
	netemLatency64                   = 10         // TCA_NETEM_LATENCY64
	u32Sel, u32Act                   = 5, 7       // TCA_U32_*
	firstFilter                      = 0x80000800 // the handle that u32 gives first
	anyProtocol                      = 0x0300     // ETH_P_ALL in network order
	actKind, actOptions, mirredParms = 1, 2, 2    // TCA_ACT_*, TCA_MIRRED_PARMS
	terminal                         = 1          // TC_U32_TERMINAL
	stolen                           = 4          // TC_ACT_STOLEN
	egressRedirect                   = 1          // TCA_EGRESS_REDIR
	psched                           = 64         // nanoseconds in a tick of the queues' clock
	linkEthernet                     = 1          // TC_LINKLAYER_ETHERNET
	handleRootTBF, handleChild       = 2 << 16, 3 << 16
	handleNetem                      = 1 << 16
)

// TBF is a token bucket: what a queue lets through.
type TBF struct {
	Rate  uint64 // bytes per second
	Burst uint32 // bytes that may go at once; packets that are larger are cut up, or lost
	Limit uint32 // bytes that wait at the most
}

// Netem disturbs packets.
type Netem struct {
	Delay time.Duration
	Loss  float64 // percent
	Limit uint32  // packets that wait at the most
}

// SetQueue makes what leaves by a link wait in a token bucket, or changes it. The kernel
// keeps the queue as long as the link. ENOENT says that it knows no token buckets
// (sch_tbf).
func (b *Batch) SetQueue(index int, t TBF) {
	b.tbf(index, handleRoot, handleRootTBF, t)
}

// SetNetem has what leaves by a link be disturbed, or changes it. ENOENT says that the
// kernel cannot (sch_netem).
func (b *Batch) SetNetem(index int, n Netem) {
	b.qdisc(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, handleRoot, handleNetem, "disturb link %d")
	b.attrStr(unix.TCA_KIND, "netem")
	b.nest(unix.TCA_OPTIONS)
	b.u32(uint32(n.Delay / psched)) // struct tc_netem_qopt
	b.u32(n.Limit)
	b.u32(uint32(math.Round(n.Loss / 100 * math.MaxUint32)))
	b.u32(0) // gap
	b.u32(0) // duplicates
	b.u32(0) // jitter
	b.attr64(netemLatency64, uint64(n.Delay))
	b.endNest()
	b.end()
}

// SetNetemQueue makes what SetNetem lets through wait in a token bucket.
func (b *Batch) SetNetemQueue(index int, t TBF) {
	b.tbf(index, handleNetem|1, handleChild, t)
}

// DelNetemQueue takes that back; it is no error if there is none.
func (b *Batch) DelNetemQueue(index int) {
	b.delQdisc(index, handleNetem|1, handleChild)
}

// DelQueue takes SetQueue and SetNetem back; it is no error if there is nothing.
func (b *Batch) DelQueue(index int) {
	b.delQdisc(index, handleRoot, 0)
}

// Redirect has all that comes in by a link leave by another one before anybody sees it:
// by one of AddIFB, from which it comes back in. It does nothing twice. ENOENT says that
// the kernel cannot (sch_ingress, cls_u32, act_mirred).
func (b *Batch) Redirect(from, to int) {
	b.qdisc(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, from, handleIngress, ingressHandle, "take what comes in by link %d")
	b.attrStr(unix.TCA_KIND, "ingress")
	b.end()
	b.begin(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, "redirect what comes in by link %d", from)
	b.tcmsg(from, ingressHandle, firstFilter, 1<<16|anyProtocol)
	b.attrStr(unix.TCA_KIND, "u32")
	b.nest(unix.TCA_OPTIONS)
	b.nest(u32Sel)
	b.u8(terminal, 0, 0, 0) // struct tc_u32_sel, without a key: all packets
	b.u32(0)
	b.u32(0)
	b.u32(0)
	b.endNest()
	b.nest(u32Act)
	b.nest(1)
	b.attrStr(actKind, "mirred")
	b.nest(actOptions)
	b.nest(mirredParms)
	b.u32(0) // struct tc_mirred
	b.u32(0)
	b.u32(stolen)
	b.u32(0)
	b.u32(0)
	b.u32(egressRedirect)
	b.u32(uint32(to))
	b.endNest()
	b.endNest()
	b.endNest()
	b.endNest()
	b.endNest()
	b.end()
}

// Undirect takes Redirect back; it is no error if there is nothing.
func (b *Batch) Undirect(from int) {
	b.delQdisc(from, handleIngress, ingressHandle)
}

// AddIFB makes a link that is up, from which packets come back in as if they had come by
// the link they came by first. EOPNOTSUPP says that the kernel has no such links (ifb).
func (b *Batch) AddIFB(name, alias string, group uint32) {
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "add ifb %s", name)
	b.ifinfo(0, unix.IFF_UP, unix.IFF_UP)
	b.attrStr(unix.IFLA_IFNAME, name)
	b.linkAttrs(nil, 0, group)
	b.nest(unix.IFLA_LINKINFO)
	b.attrStr(unix.IFLA_INFO_KIND, "ifb")
	b.endNest()
	b.end()
	b.begin(unix.RTM_NEWLINK, 0, "set alias of link %s", name)
	b.ifinfo(0, 0, 0)
	b.attrStr(unix.IFLA_IFNAME, name)
	b.attr(unix.IFLA_IFALIAS, []byte(alias))
	b.end()
}

func (b *Batch) tbf(index int, parent, handle uint32, t TBF) {
	b.qdisc(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, index, parent, handle, "limit link %d")
	b.attrStr(unix.TCA_KIND, "tbf")
	b.nest(unix.TCA_OPTIONS)
	b.nest(tbfParms)
	b.rate(t.Rate) // struct tc_tbf_qopt
	b.rate(0)      // no peak rate
	b.u32(t.Limit)
	b.u32(t.ticks())
	b.u32(0)
	b.endNest()
	if t.Rate > math.MaxUint32 {
		b.attr64(tbfRate64, t.Rate)
	}
	b.attr32(tbfBurst, t.Burst)
	b.endNest()
	b.end()
}

// rate is struct tc_ratespec. The kernel makes its tables itself.
func (b *Batch) rate(r uint64) {
	if r == 0 {
		b.u32(0)
	} else {
		b.u8(0, linkEthernet, 0, 0)
	}
	b.u32(0)
	b.u32(uint32(min(r, math.MaxUint32)))
}

// ticks is how long the burst lasts at the rate.
func (t TBF) ticks() uint32 {
	n := float64(t.Burst) / float64(t.Rate) * float64(time.Second) / psched
	return uint32(min(n, math.MaxUint32))
}

func (b *Batch) qdisc(typ, flags, index int, parent, handle uint32, what string) {
	b.begin(typ, flags, what, index)
	b.tcmsg(index, parent, handle, 0)
}

func (b *Batch) delQdisc(index int, parent, handle uint32) {
	b.qdisc(unix.RTM_DELQDISC, 0, index, parent, handle, "delete queue of link %d")
	b.end()
	b.ignore(unix.ENOENT, unix.EINVAL, unix.ENODEV) // EINVAL: the kernel's own, which cannot be deleted
}

// tcmsg is struct tcmsg.
func (b *Batch) tcmsg(index int, parent, handle, info uint32) {
	b.u32(unix.AF_UNSPEC)
	b.u32(uint32(index))
	b.u32(handle)
	b.u32(parent)
	b.u32(info)
}

func (b *Batch) attr64(t int, v uint64) {
	b.u16(12)
	b.u16(uint16(t))
	b.buf = native.AppendUint64(b.buf, v)
}
