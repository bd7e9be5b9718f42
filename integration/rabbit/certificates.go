package rabbit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Certificates are what TLS tests need, fresh from a certificate authority
// that lives as long as the process.
type Certificates struct {
	CA      *x509.CertPool // the authority that signed all of the below
	OtherCA *x509.CertPool // another one, that signed none of it

	Server    tls.Certificate // for localhost and 127.0.0.1
	Client    tls.Certificate // for the user tlsuser
	Expired   tls.Certificate // like Server, but a day too old
	WrongHost tls.Certificate // like Server, but for wrong.example

	authority []byte // the certificate of CA, in DER
}

// NewCertificates makes them all.
func NewCertificates() (*Certificates, error) {
	ca, caKey, err := newAuthority("Leveret test CA")
	if err != nil {
		return nil, fmt.Errorf("rabbit: certificates: %w", err)
	}
	other, _, err := newAuthority("another CA")
	if err != nil {
		return nil, fmt.Errorf("rabbit: certificates: %w", err)
	}
	c := &Certificates{CA: pool(ca), OtherCA: pool(other), authority: ca.Raw}
	for cert, leaf := range map[*tls.Certificate]*x509.Certificate{
		&c.Server:    server("localhost", tomorrow()),
		&c.Expired:   server("localhost", time.Now().Add(-24*time.Hour)),
		&c.WrongHost: server("wrong.example", tomorrow()),
		&c.Client: {
			Subject:     pkix.Name{CommonName: "tlsuser"},
			NotAfter:    tomorrow(),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		},
	} {
		if *cert, err = sign(leaf, ca, caKey); err != nil {
			return nil, fmt.Errorf("rabbit: certificates: %w", err)
		}
	}
	return c, nil
}

// Config is a client's configuration that trusts the server.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{RootCAs: c.CA, ServerName: "localhost"}
}

// ClientConfig is the same with the certificate of tlsuser.
func (c *Certificates) ClientConfig() *tls.Config {
	cfg := c.Config()
	cfg.Certificates = []tls.Certificate{c.Client}
	return cfg
}

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// server describes the certificate of a server called host.
func server(host string, notAfter time.Time) *x509.Certificate {
	cert := &x509.Certificate{
		Subject:     pkix.Name{CommonName: host},
		DNSNames:    []string{host},
		NotAfter:    notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if host == "localhost" {
		cert.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	return cert
}

func newAuthority(name string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	cert := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotAfter:              tomorrow(),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	signed, err := sign(cert, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	return signed.Leaf, signed.PrivateKey.(*ecdsa.PrivateKey), nil
}

// sign makes a key and a certificate for it, signed by the authority, or by
// itself when there is none.
func sign(cert, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	if ca == nil {
		ca, caKey = cert, key
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return tls.Certificate{}, err
	}
	cert.NotBefore = time.Now().Add(-48 * time.Hour)
	cert.KeyUsage |= x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, cert, ca, &key.PublicKey, caKey)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

func pool(cert *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(cert)
	return p
}

// writeCertificates makes the certificates and puts those of the broker where
// its configuration looks for them.
func (n *Node) writeCertificates() error {
	certs, err := NewCertificates()
	if err != nil {
		return err
	}
	n.Certificates = certs
	key, err := x509.MarshalPKCS8PrivateKey(certs.Server.PrivateKey)
	if err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{
		"ca.pem":     {Type: "CERTIFICATE", Bytes: certs.authority},
		"server.pem": {Type: "CERTIFICATE", Bytes: certs.Server.Certificate[0]},
		"server.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(n.dir, "conf", file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}
