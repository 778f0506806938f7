package runtime

import (
	"errors"
	"strconv"
	"strings"
)

// maxListed is above all processors and memory nodes of a machine.
const maxListed = 8192

// parseList reads the kernel's form of a set of numbers ("0-3,8") into a mask
// of whole words.
func parseList(s string) ([]byte, error) {
	mask := make([]byte, 0, 8)
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		lo, err := strconv.ParseUint(first, 10, 32)
		hi := lo
		if err == nil && isRange {
			hi, err = strconv.ParseUint(last, 10, 32)
		}
		if err != nil || lo > hi || hi >= maxListed {
			return nil, errors.New("not a list of numbers and ranges")
		}
		for n := lo; n <= hi; n++ {
			for int(n/8) >= len(mask) {
				mask = append(mask, make([]byte, 8)...)
			}
			mask[n/8] |= 1 << (n % 8)
		}
	}
	return mask, nil
}
