package opts

import (
	"fmt"
	"strconv"
)

// Umask is the value of --umask: octal, with or without leading zeros.
type Umask struct{ Value *uint32 }

func (u *Umask) Set(s string) error {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("invalid umask %q: must be an octal number, 0 to 0777", s)
	}
	v := uint32(n)
	u.Value = &v
	return nil
}

func (u *Umask) String() string {
	if u.Value == nil {
		return ""
	}
	return fmt.Sprintf("%04o", *u.Value)
}

func (u *Umask) Type() string { return "umask" }
