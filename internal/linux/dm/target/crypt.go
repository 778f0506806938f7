package target

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
)

// Crypt encrypts what is on a device.
type Crypt struct {
	Cipher   string // aes-xts-plain64
	Key      Key
	IVOffset uint64
	Area
	// Options are allow_discards, same_cpu_crypt, submit_from_crypt_cpus,
	// no_read_workqueue, no_write_workqueue, integrity:BYTES:TYPE,
	// sector_size:BYTES, iv_large_sectors.
	Options Args
}

// Key is an encryption key, or the name of one that the kernel's key ring has. It
// prints itself as zeros; AppendParams of its target has it. Wipe it after use.
type Key struct{ text []byte }

// NewKey is a key of bytes, which the caller may wipe then.
func NewKey(key []byte) Key {
	if len(key) == 0 {
		return Key{[]byte(absent)}
	}
	k := Key{make([]byte, hex.EncodedLen(len(key)))}
	hex.Encode(k.text, key)
	return k
}

// RingKey is a key in the kernel's key ring: size in bytes, kind (logon, user,
// encrypted) and description.
func RingKey(size int, kind, description string) Key {
	return Key{fmt.Appendf(nil, ":%d:%s:%s", size, kind, description)}
}

// InRing reports whether it is only the name of a key, which may be shown.
func (k Key) InRing() bool { return len(k.text) > 0 && k.text[0] == ':' }

// Len is the key's length in bytes, if it is not in the key ring.
func (k Key) Len() int {
	if k.InRing() || string(k.text) == absent {
		return 0
	}
	return len(k.text) / 2
}

// String is the name of a key in the key ring, and zeros for any other.
func (k Key) String() string {
	if k.InRing() || string(k.text) == absent {
		return string(k.text)
	}
	return string(bytes.Repeat([]byte{'0'}, len(k.text)))
}

// Format is String, too: no verb of fmt shows a key.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Equal compares keys.
func (k Key) Equal(other Key) bool { return bytes.Equal(k.text, other.text) }

// Wipe clears the key.
func (k Key) Wipe() { clear(k.text) }

func (k Key) check() error {
	if k.InRing() || string(k.text) == absent {
		return nil
	}
	if len(k.text) == 0 || len(k.text)%2 != 0 {
		return fmt.Errorf("the key has %d hexadecimal digits", len(k.text))
	}
	for _, c := range k.text { // without a copy, as hex.DecodeString would make
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return fmt.Errorf("the key is no hexadecimal number")
		}
	}
	return nil
}

// Type is crypt.
func (*Crypt) Type() string { return "crypt" }

// AppendParams appends CIPHER KEY IVOFFSET DEVICE OFFSET OPTIONS. Who is done with it
// wipes it.
func (t *Crypt) AppendParams(b []byte) []byte {
	if size := len(b) + t.size(); cap(b) < size { // growing it would leave the key behind
		b = append(make([]byte, 0, size), b...)
	}
	b = append(append(b, t.Cipher...), ' ')
	b = append(append(b, t.Key.text...), ' ')
	b = t.Area.append(fmt.Appendf(b, "%d ", t.IVOffset))
	if len(t.Options) > 0 {
		b = t.Options.append(append(b, ' '))
	}
	return b
}

// size is at least the length of the parameters.
func (t *Crypt) size() int {
	const numbers = 3 * 21
	n := len(t.Cipher) + len(t.Key.text) + len(t.Device) + numbers + 2
	for _, o := range t.Options {
		n += len(o) + 1
	}
	return n
}

// Validate knows what a key and the options look like.
func (t *Crypt) Validate() error {
	err := t.Key.check()
	if err == nil {
		err = checkWords(append(Args{t.Cipher}, t.Options...))
	}
	if err == nil {
		err = t.Area.check()
	}
	known := map[string]bool{"allow_discards": true, "same_cpu_crypt": true, "submit_from_crypt_cpus": true,
		"no_read_workqueue": true, "no_write_workqueue": true, "iv_large_sectors": true, "integrity": true, "sector_size": true, "high_priority": true}
	for _, o := range t.Options {
		name, _, _ := bytes.Cut([]byte(o), []byte{':'})
		if err == nil && !known[string(name)] {
			err = fmt.Errorf("there is no option %q", o)
		}
	}
	if err != nil {
		return fmt.Errorf("target crypt: %w", err)
	}
	return nil
}

func (t *Crypt) parse(w *words) {
	w.secret = true
	t.Cipher = w.word("cipher")
	t.Key = Key{bytes.Clone(w.raw("key"))}
	t.IVOffset, t.Area = w.number("offset of initialization vectors"), w.area("the target")
	if w.more() {
		t.Options = w.args("options")
	}
}
