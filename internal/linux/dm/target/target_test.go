package target

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

const key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// tables are parameters as Linux 6.1 prints them.
var tables = []struct{ target, params string }{
	{"linear", "7:0 0"},
	{"linear", "/dev/mapper/a 18446744073709551615"},
	{"zero", ""},
	{"error", ""},
	{"striped", "2 16 7:1 0 7:2 0"},
	{"mirror", "core 1 1024 2 7:1 4096 7:2 4096"},
	{"mirror", "core 2 1024 nosync 2 7:1 8192 7:2 8192 1 handle_errors"},
	{"mirror", "disk 2 7:3 1024 2 7:1 12288 7:2 12288 2 handle_errors keep_log"},
	{"snapshot-origin", "7:4"},
	{"snapshot", "7:4 7:5 P 8"},
	{"snapshot", "7:4 7:5 PO 8 2 discard_zeroes_cow discard_passdown_origin"},
	{"snapshot-merge", "7:4 7:6 N 16"},
	{"delay", "7:7 0 5"},
	{"delay", "7:7 0 5 7:7 0 9 7:7 1 2"},
	{"flakey", "7:7 1000 5 6 0 "},
	{"flakey", "7:7 1000 5 6 1 drop_writes "},
	{"flakey", "7:7 1000 5 6 5 corrupt_bio_byte 32 r 1 0 "},
	{"multipath", "0 0 1 1 round-robin 0 2 1 7:7 1 7:0 1 "},
	{"multipath", "4 queue_if_no_path retain_attached_hw_handler queue_mode bio 0 2 1 service-time 0 1 2 7:7 1 1 queue-length 0 1 1 7:0 1 "},
	{"multipath", "0 1 alua 0 0 "},
	{"crypt", "aes-cbc-essiv:sha256 " + key + " 0 7:7 4096"},
	{"crypt", "aes-xts-plain64 :32:logon:vol 7 7:7 8192 2 allow_discards sector_size:4096"},
	{"crypt", "cipher_null-ecb - 0 7:7 0"},
	{"raid", "raid1 3 0 region_size 1024 2 - 7:1 - 7:2"},
	{"raid", "raid1 2 0 nosync 2 7:6 7:1 7:7 7:2"},
	{"raid", "raid5_ls 3 64 region_size 1024 3 - 7:1 - 7:2 - 7:3"},
	{"raid", "raid10 5 128 raid10_copies 2 raid10_format near 4 - 7:1 - 7:2 - 7:3 - 7:5"},
	{"verity", "1 7:7 7:6 4096 4096 128 1 sha256 4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076 -"},
	{"verity", "1 7:7 7:6 4096 4096 128 1 sha256 4392712b 1234 2 ignore_corruption check_at_most_once"},
	{"cache", "253:22 7:5 7:4 128 1 writethrough default 0"},
	{"cache", "253:23 7:5 7:4 128 2 metadata2 writeback smq 2 migration_threshold 2048"},
	{"thin-pool", "253:23 7:0 128 16 0 "},
	{"thin-pool", "253:23 7:0 128 16 2 skip_block_zeroing error_if_no_space "},
	{"thin", "253:25 0"},
	{"thin", "253:25 16777215 7:4"},
}

// states are what targets say, as Linux 6.1 prints it.
var states = []struct{ target, params string }{
	{"linear", ""},
	{"crypt", ""},
	{"striped", "2 7:1 7:2 1 AD"},
	{"mirror", "2 7:1 7:2 2/2 1 AA 1 core"},
	{"mirror", "2 7:1 7:2 1/2 1 AD 3 disk 7:3 A"},
	{"snapshot", "16/65536 16"},
	{"snapshot", "Invalid"},
	{"snapshot", "Overflow"},
	{"snapshot-merge", "Merge failed"},
	{"delay", "0 1 2"},
	{"multipath", "2 1 0 0 1 1 E 0 2 0 7:7 A 0 7:0 F 3 "},
	{"multipath", "2 0 0 0 2 1 A 0 1 2 7:7 A 0 0 1 E 0 1 1 7:0 A 0 0 "},
	{"raid", "raid5_ls 3 AAa 1024/10240 resync 0 0 -"},
	{"thin-pool", "0 111/1024 0/256 - rw discard_passdown queue_if_no_space - 256 "},
	{"thin-pool", "7 111/1024 256/256 12 out_of_data_space no_discard_passdown error_if_no_space needs_check 256 "},
	{"thin-pool", "Fail"},
	{"thin", "0 -"},
	{"thin", "128 19999"},
	{"thin", "Fail"},
	{"verity", "C"},
	{"cache", "8 8/1024 128 0/512 1 2 3 4 5 6 7 2 metadata2 writethrough 2 migration_threshold 2048 smq 0 rw - "},
	{"cache", "Fail"},
}

func TestTablesArePrintedAsTheKernelDoes(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range tables {
		seen[c.target] = true
		p, err := Parse(c.target, []byte(c.params))
		if err != nil {
			t.Errorf("%s %s: %v", c.target, c.params, err)
			continue
		}
		if got := string(p.AppendParams([]byte("x"))); got != "x"+c.params {
			t.Errorf("%s %q became %q", c.target, c.params, got)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%s %s: %v", c.target, c.params, err)
		}
		if p.Type() != c.target {
			t.Errorf("%s is called %s", c.target, p.Type())
		}
	}
	if len(seen) != 17 {
		t.Errorf("%d targets have a table here", len(seen))
	}
}

func TestStatesArePrintedAsTheKernelDoes(t *testing.T) {
	for _, c := range states {
		s, err := ParseStatus(c.target, []byte(c.params))
		if err != nil {
			t.Errorf("%s %s: %v", c.target, c.params, err)
			continue
		}
		if got := string(s.AppendStatus(nil)); got != c.params {
			t.Errorf("%s %q became %q", c.target, c.params, got)
		}
	}
}

func TestFieldsAreTheParameters(t *testing.T) {
	p, err := Parse("multipath", []byte("1 queue_if_no_path 0 2 1 service-time 0 1 2 7:7 1 5 queue-length 0 1 1 7:0 1"))
	if err != nil {
		t.Fatal(err)
	}
	m := p.(*Multipath)
	if m.Features[0] != "queue_if_no_path" || len(m.Groups) != 2 || m.Groups[0].Paths[0].Args[1] != "5" || m.Groups[1].Selector != "queue-length" {
		t.Errorf("%+v", m)
	}
	s, err := ParseStatus("thin-pool", []byte("3 111/1024 5/256 - ro discard_passdown queue_if_no_space needs_check 256 "))
	if err != nil {
		t.Fatal(err)
	}
	pool := s.(*ThinPoolStatus)
	if pool.Transaction != 3 || pool.Data != (Used{5, 256}) || pool.Mode != "ro" || pool.NeedsCheck != "needs_check" {
		t.Errorf("%+v", pool)
	}
}

// Errors name the target and what is wrong with it.
func TestMistakesAreNamed(t *testing.T) {
	for _, c := range []struct{ target, params, want string }{
		{"linear", "", "the device of the target is missing"},
		{"linear", "7:0", "the offset of the target is missing"},
		{"linear", "7:0 x", `the offset of the target, "x", is no number`},
		{"linear", "7:0 0 0", "1 bytes are too much"},
		{"striped", "9999999999 1", "more than 4096"},
		{"thin-pool", "a b 128 0 3 read_only", "the features is missing"},
		{"mirror", "core 1 1024 2 7:1 0", "the device of a leg is missing"},
		{"raid", "raid1 0 0", "the chunk size is missing"},
	} {
		_, err := Parse(c.target, []byte(c.params))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "target "+c.target) {
			t.Errorf("%s %q: %v", c.target, c.params, err)
		}
	}
	if _, err := Parse("nosuch", nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := ParseStatus("nosuch", nil); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	for _, c := range []struct{ target, params, want string }{
		{"striped", "0 16", "neither can be 0"},
		{"striped", "1 0 7:1 0", "neither can be 0"},
		{"mirror", "core 1 1000 1 7:1 0", "no power of two"},
		{"mirror", "disk 1 7:3 1 7:1 0", "no region size"},
		{"mirror", "core 1 1024 0", "0 legs"},
		{"mirror", "core 1 1024 1 7:1 0 1 handle_error", `no option "handle_error"`},
		{"snapshot", "7:4 7:5 X 8", "none of P, PO and N"},
		{"snapshot", "7:4 7:5 P 9", "no power of two"},
		{"thin-pool", "a b 100 0", "no multiple of 128"},
		{"thin-pool", "a b 128 0 1 readonly", `no option "readonly"`},
		{"thin", "a 16777216", "above 16777215"},
		{"cache", "a b c 32 0 smq 0", "no multiple of 64"},
		{"cache", "a b c 64 0 smq 1 x", "names with values"},
		{"raid", "raid7 1 0 2 - a - b", `no level "raid7"`},
		{"raid", "raid5_ls 1 64 2 - a - b", "which needs 3"},
		{"raid", "raid1 2 0 region_size 2 - a - b", "needs 1 values"},
		{"raid", "raid1 3 0 sync nosync 2 - a - b", "both sync and nosync"},
		{"flakey", "a 0 0 0", "both times are 0"},
		{"flakey", "a 0 1 1 1 drop_write", `no option "drop_write"`},
		{"verity", "1 a b 4096 4096 128 1 sha256 xyz -", "no hexadecimal"},
		{"verity", "1 a b 4095 4096 128 1 sha256 ab -", "no power of two"},
		{"verity", "2 a b 4096 4096 128 1 sha256 ab -", "no version 2"},
		{"multipath", "0 0 1 2 round-robin 0 1 0 a", "the first group is 2 of 1"},
		{"multipath", "1 queue 0 0 0", `no option "queue"`},
		{"crypt", "aes 0 0 7:7 0", "1 hexadecimal digits"},
		{"crypt", "aes 0g 0 7:7 0", "no hexadecimal"},
		{"crypt", "aes 00 0 7:7 0 1 discards", `no option "discards"`},
	} {
		p, err := Parse(c.target, []byte(c.params))
		if err != nil {
			t.Errorf("%s %q: %v", c.target, c.params, err)
			continue
		}
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "target "+c.target) {
			t.Errorf("%s %q: %v", c.target, c.params, err)
		}
	}
	if (&Linear{Area{Device: "/dev/a b"}}).Validate() == nil || (&Delay{}).Validate() == nil || (&Linear{}).Validate() == nil {
		t.Error("a device with a space, no class, or no device is valid")
	}
}

// No verb shows a key, nor does an error about a table with one; Wipe clears it.
func TestKeysAreHidden(t *testing.T) {
	params := []byte("aes-xts-plain64 " + key + " 0 7:7 0")
	p, err := Parse("crypt", params)
	if err != nil {
		t.Fatal(err)
	}
	clear(params) // what is parsed is not shared
	c := p.(*Crypt)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x"} {
		for _, of := range []any{c.Key, *c, c} {
			if s := fmt.Sprintf(verb, of); strings.Contains(s, "2233") || strings.Contains(s, "51 51") || strings.Contains(s, "3333") {
				t.Errorf("%s of %T: %s", verb, of, s)
			}
		}
	}
	if got := string(c.AppendParams(nil)); !strings.Contains(got, key) {
		t.Errorf("parameters without the key: %s", got)
	}
	if c.Key.Len() != 32 || c.Key.InRing() {
		t.Errorf("%d bytes, in the ring: %v", c.Key.Len(), c.Key.InRing())
	}
	c.Key.Wipe()
	if bytes.Contains(c.AppendParams(nil), []byte("2233")) {
		t.Error("the key is there after Wipe")
	}
	for _, bad := range []string{"aes cipher " + key + " 7:7 0", "aes x 0 7:7 0 " + key} {
		if _, err := Parse("crypt", []byte(bad)); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("error with the key: %v", err)
		}
	}
	if k := NewKey([]byte{1, 0xab}); !k.Equal(Key{[]byte("01ab")}) || k.String() != "0000" {
		t.Errorf("%s", k.text)
	}
	if k := RingKey(32, "logon", "a:b"); k.String() != ":32:logon:a:b" || !k.InRing() {
		t.Error(k)
	}
}

// AppendParams does not leave the key in a slice that was too small.
func TestKeyIsWrittenOnce(t *testing.T) {
	c := &Crypt{Cipher: "aes", Key: NewKey(bytes.Repeat([]byte{7}, 32)), Area: Area{Device: "7:7"}, Options: Args{"allow_discards"}}
	c.IVOffset, c.Offset = math.MaxUint64, math.MaxUint64
	if n := len(c.AppendParams(nil)); n > c.size() {
		t.Errorf("%d bytes, more than the %d there is room for", n, c.size())
	}
	room := make([]byte, 0, c.size())
	if b := c.AppendParams(room); &b[0] != &room[:1][0] {
		t.Error("what had room enough was copied")
	}
}

func FuzzTable(f *testing.F) {
	for _, c := range tables {
		f.Add(c.target, []byte(c.params))
	}
	f.Fuzz(func(t *testing.T, target string, params []byte) {
		p, err := Parse(target, params)
		if err != nil {
			return
		}
		valid := p.Validate() == nil
		once := p.AppendParams(nil)
		again, err := Parse(target, once)
		if err != nil {
			t.Fatalf("%q became %q: %v", params, once, err)
		}
		if twice := again.AppendParams(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q", once, twice)
		}
		if valid != (again.Validate() == nil) {
			t.Fatalf("%q: valid %v, then %v", params, valid, again.Validate())
		}
	})
}

func FuzzStatus(f *testing.F) {
	for _, c := range states {
		f.Add(c.target, []byte(c.params))
	}
	f.Fuzz(func(t *testing.T, target string, params []byte) {
		s, err := ParseStatus(target, params)
		if err != nil {
			return
		}
		once := s.AppendStatus(nil)
		again, err := ParseStatus(target, once)
		if err != nil {
			t.Fatalf("%q became %q: %v", params, once, err)
		}
		if twice := again.AppendStatus(nil); !bytes.Equal(once, twice) {
			t.Fatalf("%q became %q", once, twice)
		}
	})
}
