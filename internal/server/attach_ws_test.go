package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// dialSocket attaches by a WebSocket.
func dialSocket(t *testing.T, path, target string) *websocket.Conn {
	t.Helper()
	c, err := websocket.NewConfig("ws://docker"+target, "http://docker")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(c, conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

func TestWebSocket(t *testing.T) {
	for _, tty := range []bool{false, true} {
		path := newServer(t, &fake{tty: tty})
		for version, binary := range map[string]bool{"/v1.27": false, "/v1.28": true, "/v1.44": true} {
			ws := dialSocket(t, path, version+"/containers/c1/attach/ws?stream=1&stdin=1&stdout=1")
			for _, line := range []string{"hello", strings.Repeat("x", 100000)} {
				if err := websocket.Message.Send(ws, []byte(line)); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, len(line))
				if _, err := io.ReadFull(ws, b); err != nil || string(b) != line {
					t.Fatalf("tty %v %s: %d bytes, %v", tty, version, len(b), err)
				}
			}
			var text string
			if err := websocket.Message.Send(ws, "again"); err != nil {
				t.Fatal(err)
			}
			kind := websocket.Codec{Unmarshal: func(data []byte, kind byte, v any) error {
				text = string(data)
				if (kind == websocket.BinaryFrame) != binary {
					t.Errorf("%s: frames of kind %d", version, kind)
				}
				return nil
			}}
			if err := kind.Receive(ws, nil); err != nil || text != "again" {
				t.Errorf("%q, %v", text, err)
			}
		}
	}
}

func TestWhatIsNoWebSocketIsRefused(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{}))
	good := http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"WebSocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	for name, want := range map[string]string{"Connection": "Upgrade: websocket", "Upgrade": "Upgrade: websocket", "Sec-Websocket-Version": "want 13", "Sec-Websocket-Key": "16 bytes"} {
		for _, value := range []string{"", "x"} {
			req, err := http.NewRequest("GET", "http://docker/containers/c1/attach/ws?stream=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header = good.Clone()
			req.Header.Set(name, value)
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != 400 || !strings.Contains(string(b), want) {
				t.Errorf("%s %q: %d %s", name, value, res.StatusCode, b)
			}
		}
	}
	res, body := do(t, c, "GET", "/containers/nosuch/attach/ws", "", "")
	if res.StatusCode != 400 || !strings.Contains(body, "WebSocket") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}
