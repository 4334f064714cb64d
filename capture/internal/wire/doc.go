// Package wire is the encoding of what hosts say to each other about captures.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative capture.proto
