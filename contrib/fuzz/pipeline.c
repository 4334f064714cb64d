/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One network with a port on a socket pair and a VTEP on the loopback. The addresses are those of the corpus; the worker
 * that takes the packets is the harness's, so that they are handled before the call returns.
 */
#include "pipeline.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../datapath/dp/dp.h"
#include "../../datapath/dp/harness_pipeline.h"
#include "fuzz.h"

#define VNI 4200
#define ENCRYPTED_VNI 4201
#define DISCARD 9 /* RFC 863: nobody listens there */

static const uint8_t local_mac[6] = { 2, 0x42, 10, 0, 0, 2 }, remote_mac[6] = { 2, 0x42, 10, 0, 0, 3 }, trusted_mac[6] = { 2, 0x42, 10, 0, 0, 4 };
static const struct dp_addr local_ip4 = { .b = { [10] = 0xff, 0xff, 10, 20, 0, 2 } }, remote_ip4 = { .b = { [10] = 0xff, 0xff, 10, 20, 0, 3 } };
static const struct dp_addr local_ip6 = { .b = { 0xfd, 0, 0, 0x20, [15] = 2 } }, remote_ip6 = { .b = { 0xfd, 0, 0, 0x20, [15] = 3 } };
static const struct dp_addr loopback = { .b = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };

const uint8_t fuzz_key[16];

static int containers[3];
static unsigned n_containers;

static void
start(void)
{
	struct dp_config config = { .n_workers = 1, .vtep = loopback, .claims_fd = -1, .log_fd = open("/dev/null", O_WRONLY) };
	char err[DP_ERR_LEN];

	FUZZ_CHECK(config.log_fd >= 0);
	if (dp_start(&config, err) < 0) {
		fprintf(stderr, "%s\n", err);
		abort();
	}
}

static uint32_t
add_port(uint32_t vni, const uint8_t mac[6], enum dp_trust trust)
{
	struct dp_port_config config = { .vni = vni, .trust = trust, .has_ip4 = true, .has_ip6 = true, .ip4 = local_ip4, .ip6 = local_ip6 };
	int idle[2], tap[2], port;

	FUZZ_CHECK(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, idle) && !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tap));
	memcpy(config.mac, mac, sizeof(config.mac));
	/* The first queue is the real worker's, the second the harness's. */
	config.fds[0] = idle[0];
	config.fds[1] = tap[0];
	containers[n_containers++] = tap[1];
	port = dp_port_add(&config);
	FUZZ_CHECK(port >= 0);
	return port;
}

/* An encrypted network, whose packets the VTEP sends by one key. */
static void
add_encrypted(uint32_t vtep)
{
	uint32_t port;
	struct dp_sa_config config = { .spi = FUZZ_SPI, .key = fuzz_key, .key_len = sizeof(fuzz_key) };
	uint32_t id;
	bool locked;
	int ret = dp_sa_add(&config, &locked);

	FUZZ_CHECK(ret >= 0);
	id = ret;
	FUZZ_CHECK(!dp_vtep_sas(vtep, NULL, &id, 1));
	FUZZ_CHECK(!dp_net_add(ENCRYPTED_VNI, true));
	port = add_port(ENCRYPTED_VNI, local_mac, DP_TRUST_NONE);
	FUZZ_CHECK(!dp_fdb_set_port(ENCRYPTED_VNI, local_mac, port) && !dp_fdb_set_vtep(ENCRYPTED_VNI, remote_mac, vtep));
	FUZZ_CHECK(!dp_net_flood(ENCRYPTED_VNI, &port, 1, &vtep, 1));
}

const struct fuzz_pipeline *
fuzz_pipeline(void)
{
	static struct fuzz_pipeline p;
	static bool started;

	if (started)
		return &p;
	started = true;
	start();
	FUZZ_CHECK(!dp_net_add(VNI, false));
	p.port = add_port(VNI, local_mac, DP_TRUST_NONE);
	p.trusted = add_port(VNI, trusted_mac, DP_TRUST_MAC);
	p.vtep = dp_vtep_add(loopback, DISCARD);
	FUZZ_CHECK(!dp_fdb_set_port(VNI, local_mac, p.port) && !dp_fdb_set_vtep(VNI, remote_mac, p.vtep));
	FUZZ_CHECK(!dp_neigh_set(VNI, remote_ip4, remote_mac, false) && !dp_neigh_set(VNI, remote_ip6, remote_mac, false));
	FUZZ_CHECK(!dp_net_flood(VNI, &p.port, 1, &p.vtep, 1));
	add_encrypted(p.vtep);
	dp_harness_capture("", 1);
	dp_harness_capture("ip6 or (tcp port 80 and tcp[tcpflags] & tcp-syn != 0) or greater 1000", 3);
	return &p;
}

void
fuzz_pipeline_drain(void)
{
	static uint8_t frame[UINT16_MAX + 10];

	for (unsigned i = 0; i < n_containers; i++)
		while (read(containers[i], frame, sizeof(frame)) >= 0)
			;
}
