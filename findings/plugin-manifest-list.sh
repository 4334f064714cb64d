#!/bin/sh
# Finding: Docker installs no managed plugin by a manifest list.
#
# A list of one plugin for amd64 and one for arm64 can be put into a registry, but `docker plugin install` looks for the plugin's
# configuration in the manifest that the name leads to, and does not follow a list to the one for its own architecture:
# "did not find plugin config for specified reference". So each architecture has a tag of its own.
#
# Seen with Docker 20.10.24 and docker-registry 2.8.2. Takes a Docker engine on this machine, docker-registry, curl and jq; nothing of it is left.
set -eu
work=$(mktemp -d)
port=5055
cat >"$work/config.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
http: {addr: '127.0.0.1:$port'}
storage: {filesystem: {rootdirectory: $work/data}}
END
docker-registry serve "$work/config.yml" >/dev/null 2>&1 &
registry=$!
trap 'kill $registry; rm -rf "$work"' EXIT
until curl -sf "http://127.0.0.1:$port/v2/" >/dev/null; do sleep 0.1; done

type=application/vnd.docker.distribution.manifest
manifests=
for arch in amd64 arm64; do
	mkdir -p "$work/$arch/rootfs"
	echo "$arch" >"$work/$arch/rootfs/program"
	echo '{"description":"'$arch'","entrypoint":["/program"],"interface":{"types":["docker.volumedriver/1.0"],"socket":"p.sock"}}' >"$work/$arch/config.json"
	name=127.0.0.1:$port/plugin:$arch
	docker plugin create "$name" "$work/$arch" >/dev/null
	docker plugin push "$name" >/dev/null
	docker plugin rm "$name" >/dev/null
	curl -sf -H "Accept: $type.v2+json" "http://127.0.0.1:$port/v2/plugin/manifests/$arch" >"$work/manifest"
	digest=sha256:$(sha256sum <"$work/manifest" | cut -d' ' -f1)
	manifests="$manifests{\"mediaType\":\"$type.v2+json\",\"digest\":\"$digest\",\"size\":$(wc -c <"$work/manifest"),\"platform\":{\"os\":\"linux\",\"architecture\":\"$arch\"}}"
done
echo "$manifests" | jq -s "{schemaVersion: 2, mediaType: \"$type.list.v2+json\", manifests: .}" |
	curl -sf -X PUT -H "Content-Type: $type.list.v2+json" --data-binary @- "http://127.0.0.1:$port/v2/plugin/manifests/both"
docker plugin install --disable --grant-all-permissions --alias finding:both "127.0.0.1:$port/plugin:both" || exit 0
docker plugin inspect --format 'installed: {{.Config.Description}}' finding:both
docker plugin rm finding:both
