// A client of the lego library (v5), whose own program cannot be built without its hundred providers of DNS: one life,
// told in JSON. It registers with an external account, orders with a profile and proves by http-01, asks when to renew
// (RFC 9773), renews with `replaces`, changes its key, revokes and gives its account up.
package main

import (
	"context"
	"crypto"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certcrypto"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge/http01"
	"github.com/go-acme/lego/v5/lego"
	"github.com/go-acme/lego/v5/registration"
)

type user struct {
	key          crypto.Signer
	registration *acme.ExtendedAccount
}

func (u *user) GetEmail() string                       { return "ops@example.com" }
func (u *user) GetRegistration() *acme.ExtendedAccount { return u.registration }
func (u *user) GetPrivateKey() crypto.Signer           { return u.key }

type life struct {
	Profiles    map[string]string `json:"profiles"`
	First       string            `json:"first"`
	WindowStart time.Time         `json:"window_start"`
	WindowEnd   time.Time         `json:"window_end"`
	Second      string            `json:"second"`
	Third       string            `json:"third"`
	Unknown     string            `json:"unknown_profile"`
}

var (
	server  = flag.String("server", "", "address of the directory")
	kid     = flag.String("kid", "", "key of the external account")
	secret  = flag.String("hmac", "", "its secret, base64url")
	profile = flag.String("profile", "", "profile of the orders")
	name    = flag.String("name", "", "what is ordered")
	http    = flag.String("http", "127.0.0.1:80", "where http-01 is served")
)

func main() {
	flag.Parse()
	told, err := live(context.Background())
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(told)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func live(ctx context.Context) (*life, error) {
	client, err := join(ctx)
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	told := &life{Profiles: client.GetServerMetadata().Profiles}
	wanted := certificate.ObtainRequest{Domains: []string{*name}, KeyType: certcrypto.EC256, Bundle: true, Profile: *profile}
	first, err := client.Certificate.Obtain(ctx, wanted)
	if err != nil {
		return nil, fmt.Errorf("ordering: %w", err)
	}
	told.First = string(first.Certificate)
	if err := renew(ctx, client, first, told); err != nil {
		return nil, fmt.Errorf("renewing: %w", err)
	}
	wanted.Profile = "nothing-of-that-name"
	if _, err := client.Certificate.Obtain(ctx, wanted); err != nil {
		told.Unknown = err.Error()
	}
	return told, end(ctx, client, told)
}

func join(ctx context.Context) (*lego.Client, error) {
	key, err := certcrypto.GeneratePrivateKey(certcrypto.EC256)
	if err != nil {
		return nil, err
	}
	who := &user{key: key}
	config := lego.NewConfig(who)
	config.CADirURL = *server
	client, err := lego.NewClient(config)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(*http)
	if err != nil {
		return nil, err
	}
	if err := client.Challenge.SetHTTP01Provider(http01.NewProviderServer(host, port)); err != nil {
		return nil, err
	}
	told := registration.RegisterEABOptions{TermsOfServiceAgreed: true, Kid: *kid, HmacEncoded: *secret}
	who.registration, err = client.Registration.RegisterWithExternalAccountBinding(ctx, told)
	return client, err
}

func renew(ctx context.Context, client *lego.Client, first *certificate.Resource, told *life) error {
	chain, err := certcrypto.ParsePEMBundle(first.Certificate)
	if err != nil {
		return err
	}
	info, err := client.Certificate.GetRenewalInfo(ctx, chain[0])
	if err != nil {
		return err
	}
	told.WindowStart, told.WindowEnd = info.SuggestedWindow.Start, info.SuggestedWindow.End
	options := &certificate.RenewOptions{Bundle: true, Profile: *profile, UseARICertID: true}
	second, err := client.Certificate.Renew(ctx, *first, options)
	if err != nil {
		return err
	}
	told.Second = string(second.Certificate)
	// the library is told that the first was replaced before, and orders without saying so
	third, err := client.Certificate.Renew(ctx, *first, options)
	if err != nil {
		return err
	}
	told.Third = string(third.Certificate)
	return nil
}

func end(ctx context.Context, client *lego.Client, told *life) error {
	key, err := certcrypto.GeneratePrivateKey(certcrypto.EC384)
	if err != nil {
		return err
	}
	if err := client.Registration.KeyRollover(ctx, key); err != nil {
		return fmt.Errorf("changing its key: %w", err)
	}
	reason := uint(acme.CRLReasonSuperseded)
	if err := client.Certificate.RevokeWithReason(ctx, []byte(told.Second), &reason); err != nil {
		return fmt.Errorf("revoking: %w", err)
	}
	return client.Registration.DeleteRegistration(ctx)
}
