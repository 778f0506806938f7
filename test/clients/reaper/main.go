// Reaper does what Ryuk does for Testcontainers: a library tells it by TCP which labels its
// containers, networks, volumes and images have, and when its connection ends they are
// removed through the engine's socket. Ryuk itself is only on Docker Hub.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const engine = "/var/run/docker.sock"

// wait is how long after the last connection things are kept.
const wait = 2 * time.Second

var client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", engine)
}}}

func main() {
	log.SetFlags(0)
	l, err := net.Listen("tcp", ":"+port())
	if err != nil {
		log.Fatal(err)
	}
	log.Print("Started!") // what the libraries wait for
	came, went := make(chan []string), make(chan bool)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go serve(c, came, went)
		}
	}()
	known, open := map[string]bool{}, 0
	var end <-chan time.Time
	for {
		select {
		case filters := <-came:
			if filters == nil {
				open, end = open+1, nil
			}
			for _, f := range filters {
				known[f] = true
			}
		case <-went:
			if open--; open == 0 {
				end = time.After(wait)
			}
		case <-end:
			for f := range known {
				reap(f)
			}
			return
		}
	}
}

func port() string {
	if p := os.Getenv("RYUK_PORT"); p != "" {
		return p
	}
	return "8080"
}

// serve reads filters, as "label=a=b&label=c=d", and acknowledges each line.
func serve(c net.Conn, came chan<- []string, went chan<- bool) {
	defer c.Close()
	came <- nil
	for s := bufio.NewScanner(c); s.Scan(); fmt.Fprintln(c, "ACK") {
		values, err := url.ParseQuery(s.Text())
		if err != nil {
			log.Fatal(err)
		}
		b, err := json.Marshal(map[string][]string(values))
		if err != nil {
			log.Fatal(err)
		}
		came <- []string{string(b)}
	}
	went <- true
}

// reap removes what a filter finds.
func reap(filter string) {
	q := "?filters=" + url.QueryEscape(filter)
	var containers, networks, images []struct {
		ID string `json:"Id"`
	}
	var volumes struct{ Volumes []struct{ Name string } }
	get("/containers/json"+q+"&all=1", &containers)
	self, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range containers {
		if strings.HasPrefix(c.ID, self) { // it has the labels too
			continue
		}
		remove("/containers/" + c.ID + "?force=1&v=1")
	}
	get("/networks"+q, &networks)
	for _, n := range networks {
		remove("/networks/" + n.ID)
	}
	get("/volumes"+q, &volumes)
	for _, v := range volumes.Volumes {
		remove("/volumes/" + v.Name + "?force=1")
	}
	get("/images/json"+q, &images)
	for _, i := range images {
		remove("/images/" + strings.TrimPrefix(i.ID, "sha256:"))
	}
}

func get(path string, into any) {
	r, err := client.Get("http://engine/v1.44" + path)
	if err == nil {
		err = json.NewDecoder(r.Body).Decode(into)
		r.Body.Close()
	}
	if err != nil {
		log.Fatal(path, ": ", err)
	}
}

func remove(path string) {
	req, err := http.NewRequest(http.MethodDelete, "http://engine/v1.44"+path, nil)
	if err != nil {
		log.Fatal(err)
	}
	r, err := client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	r.Body.Close()
	log.Print("removed ", path, " ", r.StatusCode)
}
