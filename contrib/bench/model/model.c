/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pipeline of so many workers and ports, of which each port in turn sends and receives packets: for callgrind, which counts the
 * instructions of dp_turn_ports, and of dp_decap with dp_decap_flush. The worker is the harness's, so that every packet is handled
 * before the call returns; the others sleep.
 * usage: model encap|decap WORKERS PORTS ROUNDS
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dp.h"
#include "harness_pipeline.h"
#include "pure_csum.h"
#include "worker.h"

#define VNI 4200
#define DISCARD 9  /* RFC 863: nobody listens there */
#define PACKETS 16 /* of a port at a time: fewer than a turn takes */
#define LEN 100    /* of a frame */
#define VNET 10
#define VXLAN 8

#define CHECK(so) \
	do { \
		if (!(so)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #so); \
			exit(1); \
		} \
	} while (0)

static const struct dp_addr loopback = { .b = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
static const uint8_t remote_mac[6] = { 2, 0x42, 10, 21, 0, 1 };

static uint32_t vtep, ids[DP_MAX_PORTS];
static int containers[DP_MAX_PORTS];

static void
mac_of(unsigned port, uint8_t mac[6])
{
	memcpy(mac, (const uint8_t[6]){ 2, 0x42, 10, 20, port >> 8, port }, 6);
}

static void
address_of(unsigned port, uint8_t ip[4])
{
	memcpy(ip, (const uint8_t[4]){ 10, 20, port >> 8, port }, 4);
}

static void
start(unsigned workers)
{
	struct dp_config config = { .n_workers = workers, .vtep = loopback, .claims_fd = -1, .log_fd = open("/dev/null", O_WRONLY) };
	unsigned cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct rlimit files = { 65536, 65536 };
	char err[DP_ERR_LEN];

	for (unsigned i = 0; i < workers; i++)
		config.cpus[i] = i % cpus;
	setrlimit(RLIMIT_NOFILE, &files);
	if (dp_start(&config, err) < 0) {
		fprintf(stderr, "%s\n", err);
		exit(1);
	}
}

/* The workers' queues stay empty; the harness's comes behind them. */
static void
add_port(unsigned port, unsigned workers)
{
	struct dp_port_config config = { .vni = VNI, .has_ip4 = true, .ip4 = { .b = { [10] = 0xff, 0xff } } };
	int idle[2], tap[2], id;

	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, idle) && !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, tap));
	mac_of(port, config.mac);
	address_of(port, config.ip4.b + 12);
	for (unsigned i = 0; i < workers; i++)
		config.fds[i] = i ? dup(idle[0]) : idle[0];
	config.fds[workers] = tap[0];
	containers[port] = tap[1];
	id = dp_port_add(&config);
	CHECK(id >= 0 && !dp_fdb_set_port(VNI, config.mac, id));
	ids[port] = id;
}

/* UDP between a port's container and the remote one, in a flow of its own. */
static void
write_frame(uint8_t *frame, unsigned port, bool from_port, unsigned flow)
{
	struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(LEN - 14) };
	struct udphdr udp = { .source = htons(1000 + flow), .dest = htons(2000), .len = htons(LEN - 14 - sizeof(ip)) };
	uint8_t local[4], remote[4] = { 10, 21, 0, 1 };

	memset(frame, 0, LEN);
	address_of(port, local);
	memcpy(&ip.saddr, from_port ? local : remote, 4);
	memcpy(&ip.daddr, from_port ? remote : local, 4);
	ip.check = ~dp_csum_fold(dp_csum_add(&ip, sizeof(ip), 0));
	mac_of(port, from_port ? frame + 6 : frame);
	memcpy(from_port ? frame : frame + 6, remote_mac, 6);
	frame[12] = 8;
	memcpy(frame + 14, &ip, sizeof(ip));
	memcpy(frame + 14 + sizeof(ip), &udp, sizeof(udp));
}

static void
encap(unsigned ports)
{
	struct dp_worker *w = dp_harness_worker();
	uint8_t frame[VNET + LEN] = { 0 };

	for (unsigned port = 0; port < ports; port++)
		for (unsigned i = 0; i < PACKETS; i++) {
			write_frame(frame + VNET, port, true, i);
			CHECK(write(containers[port], frame, sizeof(frame)) == sizeof(frame));
		}
	memcpy(w->ready, ids, ports * sizeof(ids[0]));
	w->n_ready = ports;
	while (dp_turn_ports(w))
		;
}

static void
decap(unsigned ports)
{
	uint8_t datagram[PACKETS][VXLAN + LEN], taken[UINT16_MAX];

	for (unsigned port = 0; port < ports; port++) {
		for (unsigned i = 0; i < PACKETS; i++) {
			memcpy(datagram[i], (const uint8_t[VXLAN]){ 8, 0, 0, 0, VNI >> 16, VNI >> 8, VNI & 0xff, 0 }, VXLAN);
			write_frame(datagram[i] + VXLAN, port, false, i);
		}
		dp_harness_decap(vtep, 0, sizeof(datagram[0]), datagram[0], sizeof(datagram));
		for (unsigned i = 0; i < PACKETS; i++)
			CHECK(read(containers[port], taken, sizeof(taken)) == VNET + LEN);
	}
}

int
main(int argc, char **argv)
{
	CHECK(argc == 5);
	unsigned workers = atoi(argv[2]), ports = atoi(argv[3]), rounds = atoi(argv[4]);
	bool out = !strcmp(argv[1], "encap");

	CHECK(workers && workers < DP_MAX_WORKERS && ports && ports <= DP_MAX_PORTS);
	start(workers);
	CHECK(!dp_net_add(VNI, false));
	vtep = dp_vtep_add(loopback, DISCARD);
	CHECK(!dp_fdb_set_vtep(VNI, remote_mac, vtep));
	for (unsigned port = 0; port < ports; port++)
		add_port(port, workers);
	for (unsigned i = 0; i < rounds; i++)
		(out ? encap : decap)(ports);
	CHECK(!dp_harness_drops());
	CHECK(!out || dp_harness_sent() == (uint64_t)rounds * ports * PACKETS);
	printf("%u\n", rounds * ports * PACKETS);
	return 0;
}
