//go:build root

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is dmsetup, too, when it is told so.
const asDmsetup = "TARE_DM_AS_DMSETUP"

func TestMain(m *testing.M) {
	if os.Getenv(asDmsetup) != "" {
		out := bufio.NewWriter(os.Stdout)
		status := run(os.Args, os.Stdin, out, os.Stderr)
		out.Flush()
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// lab has two directories for PATH, in each of which there is a dmsetup, and disks.
type lab struct {
	theirs, ours string
	disks        []string // loop devices
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if _, err := os.Stat("/sys/class/misc/device-mapper"); err != nil {
		if exec.Command("modprobe", "dm-mod").Run() != nil {
			t.Skip("this kernel has no device mapper")
		}
	}
	dmsetup, err := exec.LookPath("dmsetup")
	if err != nil {
		t.Fatal("Debian's dmsetup is missing: ", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{theirs: t.TempDir(), ours: t.TempDir()}
	for dir, to := range map[string]string{l.theirs: dmsetup, l.ours: self} {
		if err := os.Symlink(to, filepath.Join(dir, "dmsetup")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 8 {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 32<<20); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("losetup", "--show", "-f", file).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup: %s", out)
		}
		d := strings.TrimSpace(string(out))
		t.Cleanup(func() { exec.Command("losetup", "-d", d).Run() })
		l.disks = append(l.disks, d)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(dmsetup, "ls").Output(); err != nil || string(out) != "No devices found\n" {
			t.Errorf("devices left: %s %v", out, err)
			exec.Command(dmsetup, "remove_all", "--force").Run()
		}
	})
	return l
}

// sh runs a script with one of the two, and returns what it has printed.
func (l *lab) sh(dir, script string) (out, errOut string, status int) {
	for i, d := range l.disks {
		script = strings.ReplaceAll(script, fmt.Sprintf("@%d", i), d)
		script = strings.ReplaceAll(script, fmt.Sprintf("#%d", i), "7:"+strings.TrimPrefix(d, "/dev/loop"))
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "DM_DISABLE_UDEV=1", "LC_ALL=C.UTF-8", asDmsetup + "=1"}
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	cmd.Run()
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// compare runs a script with both.
func (l *lab) compare(t *testing.T, script string) {
	t.Helper()
	wantOut, wantErr, want := l.sh(l.theirs, script)
	gotOut, gotErr, got := l.sh(l.ours, script)
	gotErr = without(gotErr, func(line string) bool { return strings.HasPrefix(line, "  [") }) // targets and the kernel's reason
	wantErr = without(wantErr, func(line string) bool {
		return strings.HasPrefix(line, "\tstats ") || // dmstats
			strings.HasPrefix(line, "/dev/mapper/") && strings.Contains(line, ": open failed: ") // read-ahead of a device without a table
	})
	if gotOut != wantOut || gotErr != wantErr || got != want {
		t.Errorf("%s\n--- dmsetup, status %d\n%s%s--- tare-dm, status %d\n%s%s", script, want, wantOut, wantErr, got, gotOut, gotErr)
	}
}

func without(text string, skip func(line string) bool) string {
	var kept []string
	for _, line := range strings.SplitAfter(text, "\n") {
		if !skip(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

const (
	aes  = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	hash = "4392712ba01368efdf14b05c76f9e4df0d53664630b5d48632ed17a137f39076"
)

// corpus is tables, good and bad ones.
var corpus = []string{
	"0 8 linear #0 0", "0 8 linear @0 16", "0 8 zero", "0 8 error", "0 8 error #0 0",
	"0 8 linear #0 0\n8 8 zero\n16 8 error", "0 8 linear #0 0\n8 8 linear #1 0\n16 16 linear #2 8",
	"0 2048 striped 1 16 #1 0", "0 2048 striped 2 16 #1 0 #2 0", "0 6144 striped 3 128 #1 0 #2 0 #3 1024",
	"0 2048 mirror core 2 1024 nosync 1 #1 0", "0 2048 mirror core 2 1024 nosync 2 #1 4096 #2 4096",
	"0 2048 mirror core 2 1024 nosync 2 #1 8192 #2 8192 1 handle_errors",
	"0 2048 mirror core 2 512 nosync 3 #1 0 #2 0 #3 0 2 handle_errors keep_log",
	"0 2048 mirror disk 3 #4 1024 nosync 2 #1 12288 #2 12288",
	"0 2048 snapshot-origin #4", "0 2048 snapshot #4 #5 P 8", "0 2048 snapshot #4 #5 PO 16", "0 2048 snapshot #4 #6 N 16",
	"0 2048 snapshot #4 #5 P 8 2 discard_zeroes_cow discard_passdown_origin",
	"0 1000 delay #7 0 5", "0 1000 delay #7 0 5 #7 0 9", "0 1000 delay #7 0 5 #7 0 9 #7 1 2",
	"0 1000 flakey #7 1000 5 6", "0 1000 flakey #7 1000 5 0", "0 1000 flakey #7 1000 5 6 1 drop_writes",
	"0 1000 flakey #7 1000 5 6 1 error_writes", "0 1000 flakey #7 1000 5 6 5 corrupt_bio_byte 32 r 1 0",
	"0 1000 multipath 0 0 1 1 round-robin 0 1 1 #7 1", "0 1000 multipath 0 0 1 1 round-robin 0 2 1 #7 1 #0 1",
	"0 1000 multipath 1 queue_if_no_path 0 2 1 service-time 0 1 2 #7 1 1 queue-length 0 1 1 #0 1",
	"0 1000 multipath 3 queue_if_no_path queue_mode bio 0 1 1 service-time 0 2 0 #7 #0",
	"0 1000 multipath 0 0 0 0",
	"0 1000 crypt aes-cbc-essiv:sha256 " + aes + " 0 #7 4096", "0 1000 crypt aes-xts-plain64 " + aes + " 0 #7 8192 1 allow_discards",
	"0 1000 crypt aes-xts-plain64 " + aes + " 0 #7 0 3 allow_discards same_cpu_crypt submit_from_crypt_cpus",
	"0 1000 crypt cipher_null-ecb - 0 #7 0",
	"0 20480 raid raid1 2 0 nosync 2 - #1 - #2", "0 20480 raid raid1 4 0 nosync region_size 1024 2 - #1 - #2",
	"0 20480 raid raid0 1 64 2 - #1 - #2",
	"0 20480 raid raid5_ls 4 64 nosync region_size 1024 3 - #1 - #2 - #3",
	"0 32768 thin-pool #3 #0 128 16", "0 32768 thin-pool #3 #0 256 16 1 skip_block_zeroing",
	"0 32768 thin-pool #3 #0 128 0 3 ignore_discard error_if_no_space skip_block_zeroing",
	"0 32768 cache #3 #5 #4 128 1 writethrough default 0", "0 32768 cache #3 #5 #4 64 2 metadata2 writeback smq 2 migration_threshold 4096",
	"0 1024 verity 1 #7 #6 4096 4096 128 1 sha256 " + hash + " -",
	"0 1024 verity 1 #7 #6 4096 4096 128 1 sha256 " + hash + " 1234 2 ignore_corruption check_at_most_once",
	// bad ones
	"0 8 nosuch #0 0", "0 8 linear", "0 8 linear #0", "0 8 linear #0 x", "0 8 linear /dev/nosuch 0", "0 8 linear 99:99 0", "0 0 linear #0 0", "0 999999999 linear #0 0",
	"0 8 linear #0 0\n9 8 zero", "1 8 zero", "0 2048 striped 2 16 #1 0", "0 8 mirror core 1 1000 1 #1 0", "0 8 thin #0 0", "0 8 crypt nosuch 00 0 #0 0",
	"x 8 zero", "0 x zero", "0 8", "0 8 a-name-of-sixteen",
}

// rounds are tables that can be there at once: others would write what a second one
// reads.
func rounds() [][]string {
	var all [][]string
	count := map[string]int{"cache": 3} // after the thin pools, whose disks they have
	for _, table := range corpus {
		target := strings.Fields(table)[min(2, len(strings.Fields(table))-1)]
		n := 0
		switch target {
		case "snapshot", "thin-pool", "cache", "raid":
			n = count[target]
			count[target]++
		}
		for len(all) <= n {
			all = append(all, nil)
		}
		all[n] = append(all[n], table)
	}
	return all
}

// All tables are made, looked at in all ways, and removed.
func TestCorpusOfTables(t *testing.T) {
	l := newLab(t)
	for n, round := range rounds() {
		script := "for d in @3 @4 @5 @6; do dd if=/dev/zero of=$d bs=1M count=1 2>/dev/null; done\n"
		for i, table := range round {
			readOnly := ""
			if strings.Contains(table, "verity") {
				readOnly = "-r"
			}
			script += fmt.Sprintf("printf '%%s\\n' '%s' | dmsetup create d%d -u uuid-%d %s; echo $?\n", table, i, i, readOnly)
		}
		script += `dmsetup table; dmsetup table --showkeys; dmsetup table --concise; dmsetup status; dmsetup info; dmsetup info -c; dmsetup deps
dmsetup ls --tree; dmsetup ls --tree -o inverted; dmsetup targets; dmsetup remove_all; echo $?; dmsetup ls; ls /dev/mapper`
		t.Run(fmt.Sprint(n), func(t *testing.T) { l.compare(t, script) })
	}
	if len(corpus) < 60 {
		t.Errorf("only %d tables", len(corpus))
	}
}

// sessions are scripts as people write them, from no device to no device.
var sessions = map[string]string{
	"life": `dmsetup create a --table "0 8 zero"; dmsetup ls; dmsetup suspend a; dmsetup info a; dmsetup load a --table "0 16 error"; dmsetup info a
dmsetup table a; dmsetup table --inactive a; dmsetup status --inactive a; dmsetup info -c; dmsetup resume a; dmsetup table a; dmsetup rename a b; dmsetup ls
dmsetup rename b --setuuid u-b; dmsetup info b; dmsetup info -u u-b; dmsetup table -u u-b; dmsetup info -j 253 -m 0; dmsetup rename b --setuuid u-c; echo $?
dmsetup reload b --table "0 8 zero"; dmsetup clear b; dmsetup info b; dmsetup remove b; dmsetup remove b; echo $?; dmsetup ls`,
	"verbose": `dmsetup -v create a --table "0 8 zero"; dmsetup -v suspend a; dmsetup -v load a --table "0 8 error"; dmsetup -v resume a; dmsetup -v table a; dmsetup -v status; dmsetup -v deps
dmsetup -v clear a; dmsetup create b -n; dmsetup info; dmsetup -v table; dmsetup table b; dmsetup status; dmsetup deps; dmsetup remove a b; dmsetup ls`,
	"nothing": `dmsetup ls; dmsetup info; dmsetup info -c; dmsetup table; dmsetup status; dmsetup deps; dmsetup ls --tree; dmsetup remove_all; echo $?; dmsetup mangle; dmsetup mknodes; echo $?
dmsetup ls --target zero; dmsetup info -c -S "name=a"; dmsetup remove -S "name=a"; echo $?; dmsetup table --concise`,
	"missing": `for v in info table status deps remove suspend resume clear "message" "wait" wipe_table mknodes mangle; do dmsetup $v nosuch; echo $v $?; done
dmsetup info -u nosuch; dmsetup info -j 253 -m 99; dmsetup table -u nosuch; dmsetup remove -u nosuch; dmsetup info -c nosuch; dmsetup message nosuch 0 x; dmsetup rename nosuch x; dmsetup load nosuch --table "0 8 zero"
dmsetup info /dev/mapper/nosuch; dmsetup table /nosuch/x; dmsetup info x/y; dmsetup remove a b; dmsetup setgeometry nosuch 1 1 1 0`,
	"usage": `dmsetup create; dmsetup create a/b --table "0 8 zero"; dmsetup --nosuch; dmsetup -Q; dmsetup table --target; dmsetup -o; dmsetup info --noh nosuch; dmsetup --columns=x
dmsetup create a -n --table "0 8 zero"; dmsetup create a --addnodeonresume --addnodeoncreate -n; dmsetup create a -j 253 -n; dmsetup create a -M 9 -n; dmsetup create a --readahead -5 -n; dmsetup --manglename x ls
dmsetup create $(printf %0200d 0) -n; dmsetup create a /nosuch/table; dmsetup load; dmsetup load -u u x y; dmsetup ls -o x; dmsetup deps -o x; dmsetup ls --tree -o x; dmsetup remove; dmsetup suspend
dmsetup create a --concise x y; dmsetup create --concise "a,b"; dmsetup create --concise "a,,,xx,0 8 zero"; dmsetup create --concise -u x; dmsetup load a -n; dmsetup info --count -1; dmsetup info --interval 0; echo $?
dmsetup udevcomplete x; dmsetup udevflags 0; dmsetup udevreleasecookie; dmsetup message a x y; dmsetup wait`,
	"busy": `dmsetup create low --table "0 2048 linear @0 0"; dmsetup create high --table "0 1024 linear /dev/mapper/low 0"; dmsetup info -c; dmsetup remove low; echo $?; dmsetup deps; dmsetup deps -o devname; dmsetup deps -o blkdevname high
dmsetup ls -o blkdevname; dmsetup ls -o devname; dmsetup ls -o devno; dmsetup ls --tree; dmsetup ls --tree -o inverted; dmsetup ls --tree -o compact; dmsetup ls --tree -o compact,inverted
dmsetup ls --tree -o ascii,active,open,rw,uuid; dmsetup ls --tree -o utf,blkdevname; dmsetup ls --tree -o vt100,nodevice,notrunc; dmsetup remove --deferred low; dmsetup info low; dmsetup remove high; dmsetup ls
dmsetup create x --table "0 2048 linear @0 0"; dmsetup create x --table "0 8 zero"; echo $?; dmsetup create y -u u-y --table "0 8 zero"; dmsetup create z -u u-y --table "0 8 zero"; dmsetup rename y x; dmsetup remove x y; echo $?`,
	"columns": `dmsetup create vg-lv -u LVM-abc --table "0 2048 linear @0 0"; dmsetup create vg-a--b-real -u LVM-def --table "0 1024 linear /dev/mapper/vg-lv 0"; dmsetup create long-name-of-a-device -r --table "0 8 zero"; dmsetup suspend vg-lv
for o in name name,uuid major,minor devno,blkdevname attr,tables_loaded,suspended,readonly open,segments,events name_all info_all deps_all splitname_all +read_ahead name,device_count,devs_used,devnos_used,blkdevs_used name,device_ref_count,names_using_dev,devnos_using_dev subsystem,vg_name,lv_name,lv_layer mangled_name,unmangled_name,mangled_uuid,unmangled_uuid DevNo name,selected "name,,uuid"; do echo "# $o"; dmsetup info -c -o "$o"; done
dmsetup info -c --noheadings; dmsetup info -c --noheadings -o name,uuid; dmsetup info -c --separator / ; dmsetup info -c --nameprefixes; dmsetup info -c --nameprefixes --noheadings --unquoted --rows; dmsetup info -c --rows; dmsetup info -c --unbuffered
for s in name -name +minor -minor uuid,name -open,+name events; do echo "# $s"; dmsetup info -c -O "$s"; done; dmsetup info -c -o name -O -minor; dmsetup info -c vg-lv; dmsetup info -c vg-lv long-name-of-a-device -o name; dmsetup info -C -o name
for s in name=vg-lv name!=vg-lv 'name=~^vg' 'name!~^vg' 'minor>0' 'minor>=1 && minor<2' 'minor<=1,name=~lv' 'name="vg-lv" || minor=2' '!(name=vg-lv)' '(minor=0 || minor=1) && uuid=~"LVM"' suspended=Suspended open=1 'uuid=""' "name='x y'" all "segments=1#minor=1"; do echo "# $s"; dmsetup info -c -o name -S "$s"; dmsetup table -S "$s"; done
dmsetup info -c -o name,selected -S minor=1; dmsetup deps -S minor=1; dmsetup status -S 'name=~lv' ; dmsetup suspend -S minor=2; dmsetup info -c; dmsetup resume -S 'minor>=0'; dmsetup info -c -o name,suspended; dmsetup info -c --count 2 -o name
dmsetup info -c -S 'minor=' ; dmsetup info -c -S '=x'; dmsetup info -c -S '(minor=1'; dmsetup info -c -S 'minor=1 x'; dmsetup info -c -S 'minor=a'; dmsetup info -c -S '!minor=1'; echo $?
dmsetup remove vg-a--b-real vg-lv long-name-of-a-device; echo $?`,
	"names": `dmsetup splitname vg-lv--x-y; dmsetup splitname vg; dmsetup splitname a-b-c-d -c --noheadings; dmsetup splitname vg-lv CRYPT; dmsetup splitname vg-lv -o vg_name --nameprefixes; dmsetup splitname vg-lv -o lv_name,subsystem
dmsetup create "a b" --table "0 8 zero"; dmsetup ls; ls /dev/mapper; dmsetup info "a b"; dmsetup info 'a\x20b'; dmsetup info -c -o name,mangled_name,unmangled_name; dmsetup --manglename none ls; dmsetup table; dmsetup rename "a b" "c d"; dmsetup ls
dmsetup mangle; dmsetup mangle --manglename none; dmsetup --manglename none ls; dmsetup --manglename none mangle "c d"; dmsetup mangle --manglename hex; dmsetup ls; dmsetup create 'x\x20y z' -n; dmsetup --manglename hex create 'h\x20' -n; dmsetup --manglename none ls
dmsetup remove "c d"; dmsetup --manglename none remove 'h\x5cx20'; dmsetup ls; DM_DEFAULT_NAME_MANGLING_MODE=none dmsetup ls`,
	"concise": `dmsetup create --concise "a,,,,0 8 linear @0 0,8 8 zero;b,u-b,7,ro,0 8 error"; echo $?; dmsetup info -c; dmsetup table; dmsetup table --concise; dmsetup table --concise a; dmsetup table --concise --target error; c=$(dmsetup table --concise); dmsetup remove a b
dmsetup create --concise "$c"; echo $?; dmsetup table --concise; dmsetup remove_all; printf 'p\\,q , , ,rw,0 8 zero;' | dmsetup create --concise; echo $?; dmsetup ls; dmsetup table --concise; dmsetup remove_all`,
	"files": `echo "0 8 zero # comment" >/tmp/dm-table; printf '# first\n\n  0 8 linear @0 0\n8 8 zero\n' >/tmp/dm-table2; dmsetup create a /tmp/dm-table; dmsetup table a; dmsetup load a /tmp/dm-table2; dmsetup resume a; dmsetup table a; dmsetup create b </tmp/dm-table2; dmsetup table b
echo "0 8 nosense" | dmsetup load b; echo $?; dmsetup info b; dmsetup create e </dev/null; dmsetup info e; dmsetup table e; dmsetup load a </dev/null; echo $?; dmsetup info /dev/mapper/a; dmsetup table /dev/mapper/a /dev/mapper/b; dmsetup status mapper/a; ln -s /dev/mapper/a /tmp/dm-link; dmsetup info -c /tmp/dm-link
rm /tmp/dm-table /tmp/dm-table2 /tmp/dm-link; dmsetup remove /dev/mapper/a; dmsetup remove b e; dmsetup ls`,
	"force": `dmsetup create a --table "0 8 linear @0 0"; dmsetup create b --table "0 8 linear /dev/mapper/a 0"; dmsetup remove_all; dmsetup ls; dmsetup remove_all; dmsetup ls; dmsetup create a --table "0 8 zero"; dmsetup wipe_table a; dmsetup table a; dmsetup remove -f a; echo $?
dmsetup create a --table "0 8 linear @0 0"; dmsetup create b --table "0 8 linear /dev/mapper/a 0"; dmsetup remove_all -f; dmsetup ls; dmsetup table; dmsetup remove_all; dmsetup ls; dmsetup remove --force nosuch; echo $?`,
	"thin": `dd if=/dev/zero of=@3 bs=64k count=16 2>/dev/null; dmsetup create pool --table "0 32768 thin-pool @3 @0 128 16"; dmsetup message pool 0 "create_thin 0"; dmsetup message pool 0 create_thin 0; echo $?; dmsetup message pool 0 nosuch; dmsetup message pool 0; dmsetup message /dev/mapper/pool 0 set_transaction_id 0 3
dmsetup create t0 --table "0 2048 thin /dev/mapper/pool 0"; dmsetup suspend t0; dmsetup message pool 0 "create_snap 1 0"; dmsetup resume t0; dmsetup create t1 --table "0 2048 thin /dev/mapper/pool 1"; dd if=/dev/zero of=/dev/mapper/t1 bs=64k count=2 conv=fsync 2>/dev/null
dmsetup status; dmsetup status --noflush pool; dmsetup table; dmsetup ls --tree; dmsetup ls --target thin; dmsetup status --target thin-pool; dmsetup table --target thin; dmsetup ls --target thin --exec "echo found"; dmsetup table --exec echo t0; dmsetup deps; dmsetup info -c -o +names_using_dev,devs_used; dmsetup reload t0 --table "0 4096 thin /dev/mapper/pool 0"; dmsetup suspend t0; dmsetup resume t0; dmsetup table t0
dmsetup remove t0 t1; dmsetup message pool 0 "delete 1"; dmsetup status pool; dmsetup remove pool; dmsetup ls`,
	"nodes": `dmsetup create a --table "0 8 zero" -U 1 -G 2 -M 640; stat -c '%a %u %g %t %T' /dev/mapper/a; dmsetup create b -n; ls /dev/mapper; dmsetup create c -n --addnodeoncreate; ls /dev/mapper; rm /dev/mapper/a; dmsetup mknodes; ls /dev/mapper; stat -c '%a %u %g' /dev/mapper/b; rm /dev/mapper/b; dmsetup mknodes b; ls /dev/mapper
dmsetup rename a z; ls /dev/mapper; dmsetup create r --readahead 1024 --table "0 8 zero"; dmsetup info r; dmsetup resume r --readahead +10; dmsetup info r; dmsetup suspend r; dmsetup resume r --readahead none; dmsetup info r; dmsetup setgeometry z 1 2 3 4; echo $?; dmsetup setgeometry z a 2 3 4; dmsetup remove z b c r; ls /dev/mapper
dmsetup create m -j 253 -m 42 --table "0 8 zero"; dmsetup ls; dmsetup info -j 253 -m 42; dmsetup table -j 253 -m 42; dmsetup remove -j 253 -m 42; dmsetup ls; rm -f /dev/mapper/m`,
	"wait":    `dmsetup create a --table "0 8 zero"; dmsetup create b --table "0 8 zero"; (sleep 1; dmsetup rename a c) & dmsetup wait a; echo $?; wait; dmsetup info c; dmsetup wait c 0; echo $?; dmsetup -v wait c 0; dmsetup remove b c`,
	"udev":    `dmsetup udevflags 0x6A1234; dmsetup udevflags 0xffff0000; dmsetup udevcomplete 0x600000; dmsetup udevcookies; dmsetup udevcreatecookie; dmsetup udevcomplete_all -y; dmsetup udevcomplete_all -y 5; echo n | dmsetup udevcomplete_all; dmsetup udevcomplete_all x; dmsetup udevreleasecookie 0xd4d1234; echo $?`,
	"targets": `dmsetup targets; dmsetup target-version linear; dmsetup target-version linear zero; dmsetup target-version nosuch; echo $?; dmsetup version | tail -n 1`,
	"checks":  `dmsetup create low --table "0 2048 linear @0 0"; dmsetup create high --table "0 1024 linear /dev/mapper/low 0"; dmsetup --checks suspend high; dmsetup resume high; dmsetup suspend --noflush --nolockfs low high; dmsetup info -c; dmsetup resume high low; dmsetup remove high low; echo $?`,
}

func TestSessions(t *testing.T) {
	l := newLab(t)
	for name, script := range sessions {
		t.Run(name, func(t *testing.T) { l.compare(t, script) })
	}
}

// An error about a table is followed by its targets and the kernel's reason.
func TestReasons(t *testing.T) {
	l := newLab(t)
	_, errOut, status := l.sh(l.ours, `dmsetup create a --table "0 8 linear 99:99 0"`)
	if want := "  [linear] linear: Device lookup failed (-ENXIO)\n"; status != 1 || !strings.Contains(errOut, want) {
		t.Errorf("status %d, %s", status, errOut)
	}
	_, errOut, status = l.sh(l.ours, `dmsetup create low --table "0 8 zero"; dmsetup create high --table "0 8 linear /dev/mapper/low 0"; dmsetup remove low; s=$?; dmsetup remove high low; exit $s`)
	if want := "  [zero]\n"; status != 1 || !strings.Contains(errOut, want) {
		t.Errorf("status %d, %q", status, errOut)
	}
}
