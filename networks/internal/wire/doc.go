// Package wire is the encoding of what hosts say to each other about networks that are everywhere.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative networks.proto
