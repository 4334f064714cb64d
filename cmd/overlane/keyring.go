package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/discovery"
)

func keyringCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "keyring",
		Short: "Show and change the keys that encrypt gossip",
		Long: "Show and change the keys that encrypt gossip. To change the key without an interruption, run on every host\n" +
			"`overlane keyring add`, then on every host `overlane keyring use`, then on every host `overlane keyring remove`.\n" +
			"A step that would cut off a host is refused; a host that left or was shut down is not asked, and gets a new\n" +
			"key in its data directory before it starts, by a copy of keyring.json. The keys stay on disk; --gossip-key then no longer counts.",
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "Show this host's keys by their fingerprints, and which hosts have them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "keyring", writeKeyring) },
	}
	f.addOutput(list)
	cmd.AddCommand(list,
		keyCommand(f, "add KEY", "Take what is encrypted with one more key, given as to --gossip-key"),
		keyCommand(f, "use FINGERPRINT", "Encrypt with a key that all hosts have"),
		keyCommand(f, "remove FINGERPRINT", "Refuse what is encrypted with a key that no host uses any more"))
	f.addSocket(cmd)
	return cmd
}

// keyCommand is a step of a rotation.
func keyCommand(f *controlFlags, use, short string) *cobra.Command {
	verb, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if verb == "add" {
				var s settings
				if err := parseKey(&s, args[0]); err != nil {
					return fmt.Errorf("%w: want 16, 24 or 32 bytes in hexadecimal or base64, or the path of a file that holds them so", err)
				}
				args[0] = string(s.gossipKey)
			}
			return post(cmd, f, "keyring/"+verb, args[0])
		},
	}
}

func writeKeyring(out io.Writer, keys []discovery.KeyStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "KEY", "IN USE HERE", "USED BY", "HELD BY", "LACKED BY")
	for _, k := range keys {
		row(w, k.Fingerprint, yesNo(k.InUse), list(k.UsedBy), list(k.Have), list(k.Lack))
	}
	return w.Flush()
}

// keyring is what the daemon's cluster does for the command.
type keyring interface {
	Keyring() []discovery.KeyStatus
	AddKey([]byte) (discovery.Fingerprint, error)
	UseKey(discovery.Fingerprint) error
	RemoveKey(discovery.Fingerprint) error
}

// rotateKey takes a step of a rotation, and says what it did.
func rotateKey(k keyring, verb, argument string) (string, error) {
	if verb == "add" {
		f, err := k.AddKey([]byte(argument))
		return fmt.Sprintf("added key %s\n", f), err
	}
	f, err := discovery.ParseFingerprint(argument)
	if err != nil {
		return "", err
	}
	switch verb {
	case "use":
		return fmt.Sprintf("this host encrypts with key %s\n", f), k.UseKey(f)
	case "remove":
		return fmt.Sprintf("removed key %s\n", f), k.RemoveKey(f)
	}
	return "", errors.New("no such step")
}

// maxArgument bounds what a command sends.
const maxArgument = 64 << 10

func (c *control) listKeyring(w http.ResponseWriter, _ *http.Request) {
	if k := c.keyring.Load(); k != nil {
		answer(w, (*k).Keyring())
	} else {
		http.Error(w, starting, http.StatusServiceUnavailable)
	}
}

func (c *control) changeKeyring(w http.ResponseWriter, r *http.Request) {
	k := c.keyring.Load()
	if k == nil {
		http.Error(w, starting, http.StatusServiceUnavailable)
		return
	}
	argument, err := io.ReadAll(io.LimitReader(r.Body, maxArgument))
	if err != nil {
		return // the client went away
	}
	said, err := rotateKey(*k, r.PathValue("verb"), string(argument))
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	io.WriteString(w, said)
}
