//go:build lab

package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Each privilege that config.json asks for is needed: without it something fails, and what Docker or the log says tells what.
func TestPluginPrivileges(t *testing.T) {
	c := cluster(t)
	h := c.Hosts[0]
	image := registry.plugin(t, c)
	stop(t, h)
	putBack(t, func() { shell(t, h, "docker plugin rm whole; rm -r /plugin /config.json /dev/vfio") })
	config, err := os.ReadFile("../../config.json")
	must(t, err)
	// In the place of vfio's is a device that no driver serves: opening it tells who stands in the way.
	shell(t, h, fmt.Sprintf(`docker plugin install --disable --grant-all-permissions --alias whole %s >/dev/null
mkdir -p /plugin /dev/vfio
cp -a /var/lib/docker/plugins/$(docker plugin inspect --format '{{.Id}}' whole)/rootfs /plugin
mknod /dev/vfio/vfio c 10 254
cat >/config.json <<'end'
%s
end`, image, config))

	const (
		whole  = "restart: answers; check: 3 ports; upgrade: 2 endpoints"
		noPIDs = "restart: answers; check: 0 ports; upgrade: 2 endpoints"
		lost   = "restart: answers; check: 3 ports; upgrade: 0 endpoints"

		sockets = "OVERLANE_UNDERLAY="
		afXDP   = "OVERLANE_UNDERLAY=eth0"
		vfio    = "OVERLANE_STATIC=/dev/vfio/vfio" // which the daemon opens
	)
	type test struct {
		name    string
		without string // what jq deletes from config.json
		setting string
		want    string // in what Docker and the log say
	}
	tests := []test{
		{"nothing", "empty", sockets, whole},
		{"nothing, net_af_xdp", "empty", afXDP, whole},
		{"nothing, vfio", "empty", vfio, "can't read the file: no such device"},
		{"CAP_IPC_LOCK", `.linux.capabilities[] | select(. == "CAP_IPC_LOCK")`, afXDP, "Failed to create umem"},
		{"CAP_NET_ADMIN", `.linux.capabilities[] | select(. == "CAP_NET_ADMIN")`, sockets, "make tap"},
		{"CAP_SYS_ADMIN", `.linux.capabilities[] | select(. == "CAP_SYS_ADMIN")`, sockets, "enter namespace"},
		{"CAP_SYS_NICE", `.linux.capabilities[] | select(. == "CAP_SYS_NICE")`, sockets, "give the daemon CAP_SYS_NICE"},
		{"CAP_SYS_PTRACE", `(.linux.capabilities[] | select(. == "CAP_SYS_PTRACE")), (.mounts[] | select(.name == "namespaces"))`, sockets, "give the daemon CAP_SYS_PTRACE"},
		{"all devices", ".linux.allowAllDevices", vfio, "can't read the file: operation not permitted"},
		{"devices", `.mounts[] | select(.name == "devices")`, sockets, "make tap"},
		{"namespaces", `.mounts[] | select(.name == "namespaces")`, sockets, "in another network namespace than Docker gave it to"},
		{"network", ".network", sockets, "no default route"},
		{"process IDs", ".pidHost", sockets, noPIDs},
		{"propagated mount", ".propagatedMount", sockets, lost},
	}
	for _, privilege := range strings.Fields(shell(t, h, `jq -r '.linux.capabilities[], .mounts[].name, .linux.devices[]?.path' /config.json`)) {
		if !slices.ContainsFunc(tests, func(test test) bool { return test.name == privilege }) {
			t.Errorf("nobody has tried without %s", privilege)
		}
	}
	if !long {
		tests = tests[:2] // with all that it asks for
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if said := tryPlugin(t, h, image, test.without, test.setting); !strings.Contains(said, test.want) {
				t.Errorf("without %s: want %q in:\n%s", test.name, test.want, said)
			}
		})
	}
}

// tryPlugin lives through what a plugin does, with one that lacks what jq deletes from its configuration, as far as it gets: two
// containers on a network, a restart, a check, an upgrade. It gives what Docker and the plugin have said.
func tryPlugin(t *testing.T, h *Host, image, without, setting string) string {
	t.Helper()
	out, err := h.Exec(t.Context(), "sh", "-c", fmt.Sprintf(`exec 2>&1
jq 'del(%s)' /config.json >/plugin/config.json
date +%%s%%N >/plugin/rootfs/made # no engine has two plugins of the same content (findings/plugin-create-twice.sh), and one is installed
: >/var/log/dockerd.log
live() {
	docker plugin create overlane /plugin
	docker plugin set overlane %s
	docker plugin enable overlane || return
	docker network create -d overlane:latest --ipam-driver overlane:latest --subnet 10.56.0.0/16 app || return
	docker run -d --name red --network app box && docker run -d --name blue --network app box || return
	docker plugin disable -f overlane && docker plugin enable overlane || return
	address=$(docker inspect --format '{{.NetworkSettings.Networks.app.IPAddress}}' red)
	docker exec blue ping -n -c 1 -w 5 "$address" && answers=answers
	ports=$(nsenter -t $(pidof overlane) -m overlane check | grep -c 'the daemon has it')
	docker plugin disable -f overlane && docker plugin upgrade --grant-all-permissions --skip-remote-check overlane %s && docker plugin enable overlane || return
	endpoints=$(timeout 10 sh -c 'until nsenter -t $(pidof overlane) -m overlane status; do sleep 0.1; done' | grep -c ' joined ')
	echo "restart: ${answers:-silence}; check: $ports ports; upgrade: $endpoints endpoints"
}
live
cat /var/log/dockerd.log
docker rm -f red blue; docker network rm app; docker plugin rm -f overlane; true`, without, setting, image))
	must(t, err)
	return out
}
