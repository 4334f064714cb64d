// Package networks keeps the definitions of networks that are everywhere, and has the engine of this host make and remove them.
//
// A definition has a version. Of two for one name the higher version counts, and every host holds the same in the end: what changes is
// pushed to all, and once a second a host compares a digest of what it holds with another one. A removal is a definition too.
//
// The reconciler compares definitions with the engine's networks. What the engine has under a definition's name is told apart by a label, or,
// where `docker network create` made it, by what is remembered of its ID.
package networks
