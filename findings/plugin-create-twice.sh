#!/bin/sh
# Finding: Docker has a managed plugin under one name alone.
#
# `docker plugin create` of a directory that was made a plugin before, under another name, ends with "content sha256:…: already exists":
# the engine takes a layer that it has for an error, where images with the same layers go side by side. Nor does it help to make other
# settings in config.json. A file more in rootfs makes it another content.
#
# Seen with Docker 20.10.24, 26.1.5 and 28.5.2. Takes a Docker engine on this machine; nothing of it is left.
set -eu
work=$(mktemp -d)
trap 'docker plugin rm finding:one finding:two >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
mkdir "$work/rootfs"
echo program >"$work/rootfs/program"

configure() {
	echo '{"description":"'"$1"'","entrypoint":["/program"],"interface":{"types":["docker.volumedriver/1.0"],"socket":"p.sock"}}' >"$work/config.json"
}

configure one
docker plugin create finding:one "$work" >/dev/null
configure two
if said=$(docker plugin create finding:two "$work" 2>&1); then
	echo "it is made: $said" >&2
	exit 1
fi
echo "$said"
echo "$said" | grep -q 'content sha256:[0-9a-f]*: already exists'
echo two >"$work/rootfs/name"
docker plugin create finding:two "$work" >/dev/null
docker plugin ls --format '{{.Name}}: {{.Description}}' | grep finding
