/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DP_L4_H
#define DP_L4_H

/* Offsets in TCP and UDP headers, and TCP's control bits (RFC 9293 section 3.1, RFC 768): netinet/tcp.h lacks CWR. */
#define DP_TCP_SEQ 4
#define DP_TCP_ACK 8
#define DP_TCP_FLAGS 13
#define DP_TCP_CSUM 16

#define DP_UDP_LEN 4
#define DP_UDP_CSUM 6

#define DP_TCP_FIN 0x01
#define DP_TCP_SYN 0x02
#define DP_TCP_RST 0x04
#define DP_TCP_PSH 0x08
#define DP_TCP_URG 0x20
#define DP_TCP_CWR 0x80

#endif
