package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"github.com/tare-engine/tare/internal/errdefs"
)

// compression is how a stream is packed, told by its first bytes.
type compression string

const (
	plain   compression = ""
	gzipped compression = "gzip"
	zstded  compression = "zstd"
	bzip2ed compression = "bzip2"
	xzed    compression = "xz"
)

var magics = []struct {
	c     compression
	bytes []byte
}{
	{gzipped, []byte{0x1f, 0x8b, 8}},
	{zstded, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{bzip2ed, []byte("BZh")},
	{xzed, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
}

func sniff(head []byte) compression {
	for _, m := range magics {
		if bytes.HasPrefix(head, m.bytes) {
			return m.c
		}
	}
	return plain
}

// Limits against bombs: what grows by more than bombRatio is an attack once it
// is more than bombFloor.
const (
	bombRatio = 200
	bombFloor = 64 << 20
)

// maxXzDictionary is what xz -9 uses, in bytes: a stream says itself how much
// memory it wants, up to 4 GiB.
const maxXzDictionary = 64 << 20

// Decompress is a way to what is in r, compressed or not, with the limits of
// images. The caller closes the result; the end of ctx ends it, too.
func Decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	out, _, err := decompress(ctx, r)
	return out, err
}

// decompress unpacks r if it is packed. The result is closed by the caller.
func decompress(ctx context.Context, r io.Reader) (io.ReadCloser, compression, error) {
	packed := &counter{r: r}
	b := bufio.NewReaderSize(packed, 64<<10)
	head, err := b.Peek(6)
	if err != nil && err != io.EOF {
		return nil, plain, err
	}
	c := sniff(head)
	var out io.ReadCloser
	switch c {
	case plain:
		return io.NopCloser(b), c, nil
	case gzipped:
		out, err = gunzip(ctx, b)
	case zstded:
		var z *zstd.Decoder
		z, err = zstd.NewReader(b, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(2))
		if err == nil {
			out = z.IOReadCloser()
		}
	case bzip2ed:
		out = io.NopCloser(bzip2.NewReader(b))
	case xzed:
		var x *xz.Reader
		x, err = xz.NewReader(b, maxXzDictionary)
		out = io.NopCloser(x)
	default:
		err = errors.New("a compression that is not known")
	}
	if err != nil {
		return nil, c, errdefs.New(errdefs.InvalidArgument, "%s: %w", c, err)
	}
	return &unpacked{ReadCloser: out, c: c, packed: packed}, c, nil
}

// counter counts what is read through it, and remembers why reading failed.
type counter struct {
	r io.Reader

	mu  sync.Mutex
	n   int64
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (c *counter) state() (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.err
}

// unpacked watches a decompressor: its errors are the archive's fault unless
// the packed stream itself failed, and its output is bounded.
type unpacked struct {
	io.ReadCloser
	c      compression
	packed *counter
	n      int64
}

func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	u.n += int64(n)
	in, cause := u.packed.state()
	if u.n > bombFloor && u.n/bombRatio > in {
		return 0, errdefs.New(errdefs.InvalidArgument, "%s: more than %d times larger than packed", u.c, bombRatio)
	}
	if err != nil && err != io.EOF {
		if cause != nil {
			return n, cause
		}
		err = errdefs.New(errdefs.InvalidArgument, "%s: %w", u.c, err)
	}
	return n, err
}

// igzip is the path of the fast gunzip of Debian's isal, "" if there is none.
var igzip = sync.OnceValue(func() string {
	p, err := exec.LookPath("igzip")
	if err != nil {
		return ""
	}
	return p
})

// gunzip uses the host's igzip, which is three times as fast as the library.
func gunzip(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	if p := igzip(); p != "" && os.Getuid() == 0 {
		if rc, err := startIgzip(ctx, p, r); err == nil {
			return rc, nil
		}
	}
	return gzip.NewReader(r)
}

// child is a running igzip. Its output ends with its verdict on the input.
type child struct {
	cmd    *exec.Cmd
	out    *os.File
	stderr bytes.Buffer
	end    error // after wait
	waited bool
}

// startIgzip gives the program two pipes and nothing else: no privileges, no
// environment, a directory that it cannot write to.
func startIgzip(ctx context.Context, path string, r io.Reader) (io.ReadCloser, error) {
	out, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	// A large pipe saves switches between the two sides; 1 MiB is everyone's limit.
	const setPipeSize = 1031 // F_SETPIPE_SZ
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), setPipeSize, 1<<20)
	c := &child{cmd: exec.CommandContext(ctx, path, "-d", "-c"), out: out}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = r, w, &c.stderr
	c.cmd.Env, c.cmd.Dir = []string{}, "/"
	const nobody = 65534
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return c, nil
}

func (c *child) Read(b []byte) (int, error) {
	n, err := c.out.Read(b)
	if err == io.EOF {
		if e := c.wait(); e != nil {
			return n, e
		}
	}
	return n, err
}

func (c *child) wait() error {
	if !c.waited {
		c.waited = true
		if err := c.cmd.Wait(); err != nil {
			c.end = fmt.Errorf("%w: %s", err, bytes.TrimSpace(c.stderr.Bytes()))
		}
	}
	return c.end
}

// Close ends the program if it still runs.
func (c *child) Close() error {
	err := c.out.Close()
	if !c.waited {
		_ = c.cmd.Process.Kill()
		_ = c.wait()
	}
	return err
}
