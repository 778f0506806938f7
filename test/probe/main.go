// Command probe runs inside a container and tries what must be refused or
// hidden there. It prints a line for each hole, "HOLE name: what", and fails
// if there was one.
//
//	probe contain [-tty] [-nethost] [-exec] [-uid N] HOST-NAMESPACE...   all walls
//	probe facts                        what this container may do, one "name=value" a line
//	probe watch                        looks at every process that appears, until stdin ends
//	probe overwrite N                  tries N times to write to the program of process 1
//	probe keeper SOCKET                talks to the engine's keeper
//	probe swap A B                     exchanges two names without end
//	probe hang DIR                     serves a directory by FUSE, without answers
//	probe tell KILOBYTES sleep|true    says much, then that was the last line
//	probe forks | memory MB            takes tasks, or memory, until stopped
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: probe contain | facts | watch | overwrite | forks | memory | sleep")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "contain":
		contain(os.Args[2:])
	case "facts":
		facts()
	case "watch":
		watch()
	case "overwrite":
		n, _ := strconv.Atoi(os.Args[2])
		overwrite(n)
	case "forks":
		forks()
	case "memory":
		n, _ := strconv.Atoi(os.Args[2])
		memory(n)
	case "keeper":
		keeper(os.Args[2])
	case "swap":
		swap(os.Args[2], os.Args[3])
	case "hang":
		hang(os.Args[2])
	case "tell":
		n, _ := strconv.Atoi(os.Args[2])
		tell(n)
		if os.Args[3] == "sleep" {
			time.Sleep(time.Hour)
		}
	case "sleep":
		time.Sleep(time.Hour)
	case "speak":
		for {
			fmt.Println("alive")
			time.Sleep(10 * time.Millisecond)
		}
	case "true":
	}
	if holes > 0 {
		os.Exit(1)
	}
}

var holes int

// hole reports something that should not be possible.
func hole(name, format string, args ...any) {
	holes++
	fmt.Printf("HOLE %s: %s\n", name, fmt.Sprintf(format, args...))
}

// forks makes children that live until it ends, and says how many it got.
func forks() {
	n := 0
	for {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"probe", "sleep"}, &syscall.ProcAttr{})
		if err != nil {
			fmt.Printf("stopped after %d: %v (%d)\n", n, err, pid)
			time.Sleep(3 * time.Second)
			return
		}
		n++
	}
}

// tell prints that many kilobytes.
func tell(kilobytes int) {
	for range kilobytes {
		fmt.Println(strings.Repeat("x", 1023))
	}
	fmt.Println("the last line")
}

// hang mounts a file system over dir that does not answer.
func hang(dir string) {
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR, 0)
	if err == nil {
		err = syscall.Mount("probe", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		hole("fuse", "%v", err)
		return
	}
	fmt.Println("mounted")
	time.Sleep(time.Hour)
}

// memory touches that many megabytes.
func memory(megabytes int) {
	var kept [][]byte
	for range megabytes {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	fmt.Println("got", len(kept))
}

// keeper connects to the keeper and says what its protocol begins with.
func keeper(path string) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	hello := append(make([]byte, 20), "{\"Version\":1,\"EngineID\":\"x\"}"...)
	hello[0], hello[4], hello[8] = 1, byte(len(hello)-20), 1
	c.Write(hello)
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 4096)
	if n, err := c.Read(b); err != nil || n == 0 {
		fmt.Println("refused:", err)
		return
	}
	hole("keeper", "answers %q", b)
}

// swap exchanges two names until it is killed.
func swap(a, b string) {
	const exchange, renameat2 = 2, 316
	cwd := -100
	for {
		syscall.RawSyscall6(renameat2, uintptr(cwd), cstring(a), uintptr(cwd), cstring(b), exchange, 0)
	}
}
