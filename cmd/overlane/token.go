package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/overlane/overlane/discovery"
)

// parseToken takes the token itself or the path of a file that holds it, which may begin with an @. Its errors never show what may be a token.
func parseToken(s *settings, text string) (err error) {
	if text == "" {
		return nil
	}
	if !discovery.IsToken(text) {
		path := strings.TrimPrefix(text, "@")
		content, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("what was given is no token, and as a path it leads to no file")
		}
		if err != nil {
			return fmt.Errorf("can't read the file: %w", errors.Unwrap(err))
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
			s.exposed = path
		}
		text = strings.TrimSpace(string(content))
	}
	s.token, err = discovery.ParseToken(text)
	return err
}

func tokenCommand() *cobra.Command {
	f := new(controlFlags)
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print what another host needs to join this host's cluster",
		Long: "Print what another host needs to join this host's cluster: `overlane daemon --join HOST --token TOKEN`. It is a secret: whoever\n" +
			"has it and reaches the gossip port is a member. In a file that root alone may read it is seen by nobody else: --token FILE.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := exchange(cmd.Context(), f.socket, http.MethodGet, "token", nil)
			cmd.OutOrStdout().Write(text)
			return err
		},
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "Show by their fingerprints the tokens that let hosts in, and which hosts have them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return show(cmd, f, "token/list", writeTokens) },
	}
	f.addOutput(list)
	cmd.AddCommand(list, newTokenCommand(), rotateCommand(f))
	f.addSocket(cmd)
	return cmd
}

func newTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new",
		Short: "Make the token of a cluster that does not exist yet",
		Long: "Make the token of a cluster that does not exist yet, so that all its hosts can be set up alike: --token is the same on each, and\n" +
			"none of them has to be the first. The first host of a cluster makes one itself where it is given none.",
		Args: cobra.NoArgs,
		Run:  func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), discovery.NewToken().Text()) },
	}
}

// How long `overlane token rotate` waits for all hosts, and between its looks.
const (
	rotatePatience = 30 * time.Second
	rotateLook     = 200 * time.Millisecond
)

func rotateCommand(f *controlFlags) *cobra.Command {
	var now bool
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change the token on all hosts, so that the old one lets nobody in",
		Long: "Change the token on all hosts, so that the old one lets nobody in. No packet is lost, and nobody is cut off: a host that is down is\n" +
			"waited for until it is up again, has left, or was forgotten after a day. With --now it is not: it has to be given the new token when it\n" +
			"comes back, as one that was forgotten. The command waits for half a minute; the hosts go on without it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			verb := "rotate"
			if now {
				verb = "rotate-now"
			}
			said, err := exchange(cmd.Context(), f.socket, http.MethodPost, "token/"+verb, nil)
			if err != nil {
				return err
			}
			return awaitRotation(cmd, f, strings.TrimSpace(string(said)))
		},
	}
	cmd.Flags().BoolVar(&now, "now", false, "wait for no host that is down")
	return cmd
}

// awaitRotation waits until a token is the only one: on this host, which it is when all hosts use it, and on the others that are up, each of
// which gives the old one up by itself.
func awaitRotation(cmd *cobra.Command, f *controlFlags, fingerprint string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), rotatePatience)
	defer cancel()
	for {
		tokens, err := fetch[[]discovery.KeyStatus](cmd.Context(), f.socket, "token/list")
		if err != nil {
			return err
		}
		if len(tokens) == 1 {
			others := ""
			if lack := tokens[0].Lack; len(lack) > 0 {
				others = fmt.Sprintf("; give it to %s when they come back", strings.Join(lack, ", "))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "the hosts use the new token %s: `overlane token` prints it%s\n", tokens[0].Fingerprint, others)
			return nil
		}
		select {
		case <-ctx.Done():
			return unfinished(tokens, fingerprint)
		case <-time.After(rotateLook):
		}
	}
}

// unfinished says what a rotation waits for.
func unfinished(tokens []discovery.KeyStatus, fingerprint string) error {
	missing := "this host"
	var late []string // hosts that use the new token, and still take the old one
	for _, t := range tokens {
		switch {
		case t.Fingerprint != fingerprint:
			late = append(late, t.Have...)
		case t.InUse && len(t.UsedBy) == len(t.Have):
			missing = strings.Join(t.Lack, ", ")
		default:
			missing = cmp.Or(strings.Join(t.Lack, ", "), "hosts that use the old one")
		}
	}
	if missing == "" {
		slices.Sort(late)
		return fmt.Errorf("the new token %s is in use on all hosts, and the old one still lets hosts in on %s: see overlane's log there; it goes on by itself", fingerprint, strings.Join(slices.Compact(late), ", "))
	}
	return fmt.Errorf("the new token %s is not in use on all hosts yet, and the old one still lets hosts in: waiting for %s; it goes on by itself when they are up, or without them after `overlane token rotate --now`", fingerprint, missing)
}

func writeTokens(out io.Writer, tokens []discovery.KeyStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, "TOKEN", "IN USE HERE", "USED BY", "HELD BY", "LACKED BY")
	for _, t := range tokens {
		row(w, t.Fingerprint, yesNo(t.InUse), list(t.UsedBy), list(t.Have), list(t.Lack))
	}
	return w.Flush()
}

// keyring is what the daemon's cluster does for the command.
type keyring interface {
	Token() (discovery.Token, error)
	Keyring() []discovery.KeyStatus
	RotateToken(now bool) (discovery.Fingerprint, error)
}

func (c *control) printToken(w http.ResponseWriter, _ *http.Request) {
	c.withKeyring(w, func(k keyring) (string, error) {
		token, err := k.Token()
		if err != nil {
			return "", err
		}
		return token.Text(), nil
	})
}

func (c *control) rotateToken(now bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c.withKeyring(w, func(k keyring) (string, error) {
			f, err := k.RotateToken(now)
			return f.String(), err
		})
	}
}

func (c *control) listTokens(w http.ResponseWriter, _ *http.Request) {
	if k := c.keyring.Load(); k != nil {
		answer(w, (*k).Keyring())
	} else {
		c.notReady(w)
	}
}

func (c *control) withKeyring(w http.ResponseWriter, do func(keyring) (string, error)) {
	k := c.keyring.Load()
	if k == nil {
		c.notReady(w)
		return
	}
	said, err := do(*k)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprintln(w, said)
}
