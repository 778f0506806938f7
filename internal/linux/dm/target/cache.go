package target

import "fmt"

// Cache keeps parts of a slow device, the origin, on a fast one.
type Cache struct {
	Metadata, Cache, Origin string
	BlockSize               uint64 // sectors: 64 to 2,097,152, a multiple of 64
	// Features are writethrough, writeback, passthrough, metadata2,
	// no_discard_passdown.
	Features   Args
	Policy     string // smq; default is it, too
	PolicyArgs Args   // names, each with a value
}

// Type is cache.
func (*Cache) Type() string { return "cache" }

// AppendParams appends METADATA CACHE ORIGIN BLOCKSIZE FEATURES POLICY ARGS.
func (t *Cache) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%s %s %s %d ", t.Metadata, t.Cache, t.Origin, t.BlockSize)
	b = fmt.Appendf(t.Features.append(b), " %s ", t.Policy)
	return t.PolicyArgs.append(b)
}

// Sizes of a cache's blocks.
const (
	minCacheBlock = 64
	maxCacheBlock = 2 << 20
)

// Validate knows block sizes and features.
func (t *Cache) Validate() error {
	err := t.Features.check(map[string]int{"writethrough": 0, "writeback": 0, "passthrough": 0, "metadata2": 0, "no_discard_passdown": 0})
	for _, d := range []string{t.Metadata, t.Cache, t.Origin} {
		if err == nil {
			err = checkDevice(d)
		}
	}
	if err == nil {
		err = checkWords(append(Args{t.Policy}, t.PolicyArgs...))
	}
	switch {
	case err != nil:
	case t.BlockSize < minCacheBlock || t.BlockSize > maxCacheBlock || t.BlockSize%minCacheBlock != 0:
		err = fmt.Errorf("the block size, %d, is no multiple of %d up to %d", t.BlockSize, minCacheBlock, maxCacheBlock)
	case len(t.PolicyArgs)%2 != 0:
		err = fmt.Errorf("the policy has %d arguments, which are names with values", len(t.PolicyArgs))
	}
	if err != nil {
		return fmt.Errorf("target cache: %w", err)
	}
	return nil
}

func (t *Cache) parse(w *words) {
	t.Metadata, t.Cache, t.Origin = w.word("metadata device"), w.word("cache device"), w.word("origin")
	t.BlockSize, t.Features = w.number("block size"), w.args("features")
	t.Policy, t.PolicyArgs = w.word("policy"), w.args("arguments of the policy")
}

// CacheStatus is what a cache has done so far.
type CacheStatus struct {
	Failed                       bool   // nothing else is known then
	MetadataBlock                uint64 // sectors
	Metadata                     Used   // blocks
	BlockSize                    uint64 // sectors
	Cache                        Used   // blocks
	ReadHits, ReadMisses         uint64
	WriteHits, WriteMisses       uint64
	Demotions, Promotions, Dirty uint64
	Features, Core               Args
	Policy                       string
	PolicyArgs                   Args
	Mode                         string // rw, ro
	NeedsCheck                   string // needs_check, or -
}

// AppendStatus appends them in this order.
func (s *CacheStatus) AppendStatus(b []byte) []byte {
	if s.Failed {
		return append(b, failed...)
	}
	b = s.Metadata.append(fmt.Appendf(b, "%d ", s.MetadataBlock))
	b = s.Cache.append(fmt.Appendf(b, " %d ", s.BlockSize))
	b = fmt.Appendf(b, " %d %d %d %d %d %d %d ", s.ReadHits, s.ReadMisses, s.WriteHits, s.WriteMisses, s.Demotions, s.Promotions, s.Dirty)
	b = append(s.Features.append(b), ' ')
	b = fmt.Appendf(s.Core.append(b), " %s ", s.Policy)
	return fmt.Appendf(s.PolicyArgs.append(b), " %s %s ", s.Mode, s.NeedsCheck)
}

func (s *CacheStatus) parse(w *words) {
	if string(w.rest) == failed {
		s.Failed, w.rest = true, nil
		return
	}
	s.MetadataBlock, s.Metadata = w.number("block size of metadata"), w.used("metadata")
	s.BlockSize, s.Cache = w.number("block size"), w.used("cache")
	for _, n := range []*uint64{&s.ReadHits, &s.ReadMisses, &s.WriteHits, &s.WriteMisses, &s.Demotions, &s.Promotions, &s.Dirty} {
		*n = w.number("count")
	}
	s.Features, s.Core = w.args("features"), w.args("arguments of the cache")
	s.Policy, s.PolicyArgs = w.word("policy"), w.args("arguments of the policy")
	s.Mode, s.NeedsCheck = w.word("mode"), w.word("need of a check")
}
