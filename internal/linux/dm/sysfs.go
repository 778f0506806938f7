package dm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Major is the major number of mapped devices.
func Major() (uint32, error) {
	f, err := os.Open("/proc/devices")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for block := false; s.Scan(); {
		w := strings.Fields(s.Text())
		switch {
		case s.Text() == "Block devices:":
			block = true
		case block && len(w) == 2 && w[1] == "device-mapper":
			n, err := strconv.ParseUint(w[0], 10, 12)
			return uint32(n), err
		}
	}
	if err := s.Err(); err != nil {
		return 0, err
	}
	return 0, errors.New("/proc/devices has no device-mapper")
}

func sysfs(d Dev, rest ...string) string {
	return filepath.Join(append([]string{"/sys/dev/block", d.String()}, rest...)...)
}

// KernelName is the kernel's name of a block device, like dm-0 or loop1.
func KernelName(d Dev) (string, error) {
	link, err := os.Readlink(sysfs(d))
	if err != nil {
		return "", err
	}
	return filepath.Base(link), nil
}

// MappedName is the name of a mapped device, or the kernel's of any other.
func MappedName(d Dev) (string, error) {
	b, err := os.ReadFile(sysfs(d, "dm", "name"))
	if errors.Is(err, os.ErrNotExist) {
		return KernelName(d)
	}
	return strings.TrimSuffix(string(b), "\n"), err
}

// ReadAhead is how many sectors the kernel reads ahead of a device.
func ReadAhead(d Dev) (uint32, error) {
	b, err := os.ReadFile(sysfs(d, "bdi", "read_ahead_kb"))
	if err != nil {
		return 0, err
	}
	kb, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read-ahead of %s: %w", d, err)
	}
	return uint32(kb * 2), nil
}

// SetReadAhead sets it, rounded up to what the kernel can keep.
func SetReadAhead(d Dev, sectors uint32) error {
	return os.WriteFile(sysfs(d, "bdi", "read_ahead_kb"), []byte(strconv.FormatUint((uint64(sectors)+1)/2, 10)), 0)
}
