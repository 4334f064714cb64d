package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// parseKey takes the key itself or the path of a file that holds it, which may start with an @. Its errors never show
// what may be a key.
func parseKey(s *settings, text string) error {
	if text == "" {
		return nil
	}
	path, isFile := strings.CutPrefix(text, "@")
	if !isFile && !isPath(path) {
		if s.gossipKey = decodeKey(text); s.gossipKey != nil {
			return nil
		}
		if !strings.Contains(path, "/") {
			return errors.New("the value given is neither a key nor a path")
		}
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the value given is not a key, and as a path it leads to no file")
	}
	if err != nil {
		return fmt.Errorf("can't read the file: %w", errors.Unwrap(err))
	}
	if s.gossipKey = decodeKey(strings.TrimSpace(string(content))); s.gossipKey == nil {
		return errors.New("the file holds no key")
	}
	return nil
}

// isPath tells a path from a key: base64 has the slash among its digits, so a path of the right length reads as a
// key that anybody could guess. A file that is there is meant, and so is one that is missing from a directory.
func isPath(path string) bool {
	if _, err := os.Stat(path); err == nil {
		return true
	}
	dir := filepath.Dir(path)
	_, err := os.Stat(dir)
	return err == nil && dir != "/" && dir != "."
}

// decodeKey is nil for what is not a key. Hexadecimal goes first: its digits are base64 too.
func decodeKey(text string) []byte {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString, base64.URLEncoding.DecodeString} {
		key, err := decode(text)
		if err == nil && (len(key) == 16 || len(key) == 24 || len(key) == 32) {
			return key
		}
	}
	return nil
}
