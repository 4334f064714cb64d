// Package plain makes texts of other hosts fit for a terminal.
package plain

import (
	"strings"
	"unicode"
)

// Text has a space for each end of a line, which errors of several have, and a question mark for what else is not printed, such as what a terminal obeys.
func Text(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}
