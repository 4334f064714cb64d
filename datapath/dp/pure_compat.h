/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_COMPAT_H
#define DP_COMPAT_H

/*
 * What older headers lack. The numbers are the kernel's ABI, so that a binary built on an old host
 * uses what a newer kernel has; each use is tried and given up where the kernel refuses.
 */
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

#ifndef UDP_NO_CHECK6_RX
#define UDP_NO_CHECK6_RX 102
#endif

#endif
