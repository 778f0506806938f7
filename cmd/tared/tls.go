package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// certificates are those of the tcp listeners. They may be replaced while the
// listeners are in use.
type certificates struct {
	current atomic.Pointer[tls.Config]
}

// load reads the files of c. After an error the old certificates stay.
func (t *certificates) load(c *Config) error {
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return fmt.Errorf("tlscert %s, tlskey %s: %w", c.TLSCert, c.TLSKey, err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if c.TLSVerify {
		if conf.ClientCAs, err = readCAs(c.TLSCACert); err != nil {
			return fmt.Errorf("tlscacert %s: %w", c.TLSCACert, err)
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	t.current.Store(conf)
	return nil
}

func readCAs(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("no certificate in it")
	}
	return pool, nil
}

// config is for listeners: each handshake takes the certificates of its time.
func (t *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return t.current.Load(), nil
		},
	}
}

// names are those in the engine's certificate: clients may call us so.
func (t *certificates) names() []string {
	conf := t.current.Load()
	if conf == nil {
		return nil
	}
	leaf := conf.Certificates[0].Leaf
	if leaf == nil {
		return nil
	}
	return leaf.DNSNames
}
