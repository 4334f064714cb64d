package networks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/overlane/overlane/networks/internal/wire"
)

// ProtocolVersion is the first byte of every message: no other part of overlane's has it.
const ProtocolVersion = 0x41

// Limits of a message.
const (
	maxMessage = 4 << 20 // bytes, discovery's
	maxReason  = 512     // bytes
)

// message is what hosts say to each other.
type message struct {
	definitions []Definition
	digest      []byte // empty: the tables are not to be compared
	reply       bool   // definitions are all of the sender's, and answer a digest
	ask         uint64 // 0: nothing is asked
	about       string // with ask: the network's name; empty: all
	told        uint64 // 0: nothing is told
	states      []State
	noEngine    bool    // with told: the sender makes no networks
	refused     []error // why definitions in it are not taken
}

func (m *message) encode() ([]byte, error) {
	w := &wire.Message{Digest: m.digest, Reply: m.reply}
	for _, d := range m.definitions {
		origin, err := hex.DecodeString(d.Origin)
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w", d.Origin, err)
		}
		w.Definitions = append(w.Definitions, &wire.Definition{Name: d.Name, Version: d.Version, Origin: origin, Removed: d.Removed, Only: d.Only, Spec: d.Spec})
	}
	if m.ask != 0 {
		w.Ask = &wire.Ask{Id: m.ask, Name: m.about}
	}
	if m.told != 0 {
		w.Told = &wire.Told{Id: m.told, NoEngine: m.noEngine}
		for _, s := range m.states {
			reason := strings.ToValidUTF8(s.Reason[:min(len(s.Reason), maxReason)], "")
			w.Told.States = append(w.Told.States, &wire.State{Name: s.Name, Identity: s.identity, Present: s.Present, Reason: reason, Lasting: s.lasting})
		}
	}
	return proto.MarshalOptions{}.MarshalAppend([]byte{ProtocolVersion}, w)
}

// decode takes a message, but for definitions that it can't read: a later version may have made them.
func decode(text []byte) (*message, error) {
	const nodeID = 16
	if len(text) == 0 || text[0] != ProtocolVersion || len(text) > maxMessage {
		return nil, fmt.Errorf("%d bytes, at most %d, the first of them %d: want %d", len(text), maxMessage, text[:min(len(text), 1)], ProtocolVersion)
	}
	var w wire.Message
	if err := proto.Unmarshal(text[1:], &w); err != nil {
		return nil, err
	}
	m := &message{digest: w.GetDigest(), reply: w.GetReply(), ask: w.GetAsk().GetId(), about: w.GetAsk().GetName(), told: w.GetTold().GetId(), noEngine: w.GetTold().GetNoEngine()}
	if n := len(m.digest); n != 0 && n != sha256.Size {
		return nil, fmt.Errorf("a digest of %d bytes, not %d", n, sha256.Size)
	}
	for _, wd := range w.GetDefinitions() {
		if len(wd.GetOrigin()) != nodeID {
			m.refused = append(m.refused, fmt.Errorf("network %q: an origin of %d bytes, not %d", wd.GetName(), len(wd.GetOrigin()), nodeID))
			continue
		}
		d := Definition{Name: wd.GetName(), Version: wd.GetVersion(), Origin: hex.EncodeToString(wd.GetOrigin()), Removed: wd.GetRemoved(), Only: wd.GetOnly(), Spec: wd.GetSpec()}
		m.definitions = append(m.definitions, d)
	}
	for _, s := range w.GetTold().GetStates() {
		if len(s.GetReason()) > maxReason {
			return nil, fmt.Errorf("a reason of %d bytes, at most %d", len(s.GetReason()), maxReason)
		}
		m.states = append(m.states, State{Name: s.GetName(), Present: s.GetPresent(), Reason: s.GetReason(), identity: s.GetIdentity(), lasting: s.GetLasting()})
	}
	return m, nil
}
