//go:build lab

package lab

import (
	"fmt"
	"testing"
)

// DPDK's testpmd, the only thing that runs in a container, answers ping of a container with a tap on another host: also when the daemon
// has been killed, and when the container has been.
func testNativePort(t *testing.T, c *Cluster) {
	network(t, c.Hosts[:2], "app", 20)
	native := c.Hosts[0]
	red, redAt := start(t, c.Hosts[1], "red", "app")
	if !redAt.IPAddress.IsValid() {
		t.Fatal("red has no address")
	}
	shell(t, native, `docker import /usr/local/share/testpmd.tar testpmd >/dev/null`)
	for kind, device := range map[string]string{
		"vhost-user": "net_virtio_user0,path=/run/native/vhost.sock,server=1",
		"memif":      "net_memif0,role=server,socket=/run/native/memif.sock,socket-abstract=no",
	} {
		t.Run(kind, func(t *testing.T) { testNativeKind(t, native, red, kind, device) })
	}
	shell(t, native, "docker rmi testpmd >/dev/null")
}

func testNativeKind(t *testing.T, native *Host, red *Container, kind, device string) {
	shell(t, native, fmt.Sprintf(`docker run --detach --name pmd --network name=app,driver-opt=port=%s,driver-opt=socket=pmd --ip 10.20.0.7 -v /run/docker/overlane/pmd:/run/native testpmd \
	dpdk-testpmd --no-huge --no-shconf -m 256 --no-pci -l 0-1 --no-telemetry --vdev=%s,mac=02:42:0a:14:00:07 \
	-- --forward-mode=icmpecho --auto-start --stats-period=1 --total-num-mbufs=4096`, kind, device))
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(shell(t, native, "docker logs --tail 40 pmd 2>&1; ls -la /run/docker/overlane/pmd"))
		}
	})
	pmd := &Container{Host: native, Name: "pmd"}
	at := attachment(t, pmd, "app")
	answers := func(when string) {
		t.Helper()
		eventually(t, "testpmd answers "+when, settleTimeout, func() error {
			_, err := red.Ping(t.Context(), at.IPAddress, 1)
			return err
		})
	}
	answers("at first")
	if at.MacAddress != "02:42:0a:14:00:07" {
		t.Errorf("Docker says that it has MAC %s", at.MacAddress)
	}
	shell(t, native, fmt.Sprintf("overlane status | grep '%s pmd, connected'", kind))

	shell(t, native, fmt.Sprintf("old=$(pidof overlane); kill -9 $old; %s$old; start-overlane", ends))
	answers("after the daemon was killed")
	shell(t, native, "docker kill pmd >/dev/null; docker start pmd >/dev/null")
	answers("after it was killed itself")
	shell(t, native, "docker rm -f pmd >/dev/null; rm -r /run/docker/overlane/pmd")
}
