"""Has a client that half-closed its connection gone, or does it still wait for its answer?

A process that ends or calls close() sends the same FIN as shutdown(SHUT_WR). The kernel knows the difference: a socket
without an owner has no inode. Where the client is on this machine, Linux tells for one socket (sock_diag(7), 13 us;
/proc/net/tcp has the same, but its length is that of all connections of the machine). Elsewhere nobody does.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import Any

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
ANY = 0xFFFFFFFF
PATIENCE = 0.1  # seconds; the kernel answers at once or not at all

# struct nlmsghdr; struct inet_diag_req_v2 up to its socket id; the id's interface and cookie; linux/inet_diag.h
MESSAGE = struct.Struct("=IHHII")
QUESTION = struct.Struct("=BBBBI")
REST_OF_ID = struct.Struct("=III")
ERROR = struct.Struct("=i")
# struct inet_diag_msg: the inode is its last word
INODE = struct.Struct("=I")
INODE_AT = MESSAGE.size + 68

Address = tuple[Any, ...]


def has_gone(transport: Any) -> bool | None:
    """True: the peer's socket has no process behind it any more; False: it has; None: cannot be told."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not peer or not own:
        return True
    if not ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
        return None
    try:
        found = inode(peer, own)
        # a kernel without tcp_diag says "no such socket" of every socket, our own end too
        if found is None and inode(own, peer) is None:
            return None
    except OSError:
        return None
    return found in (None, 0)


def inode(local: Address, remote: Address) -> int | None:
    """The inode of the TCP socket local -> remote as its own process has it; 0: nobody has it; None: no such socket.

    Raises OSError where the kernel does not tell (another system, a sandbox)."""
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError("no sock_diag here")
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    question = QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, ANY)
    question += struct.pack(">HH", local[1], remote[1]) + _packed(family, local) + _packed(family, remote)
    question += REST_OF_ID.pack(0, ANY, ANY)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(PATIENCE)
        size = MESSAGE.size + len(question)
        kernel.send(MESSAGE.pack(size, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + question)
        answer = kernel.recv(4096)
    if MESSAGE.unpack_from(answer)[1] == NLMSG_ERROR:
        code = -ERROR.unpack_from(answer, MESSAGE.size)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, "sock_diag")
    found: int = INODE.unpack_from(answer, INODE_AT)[0]
    return found


def _packed(family: int, address: Address) -> bytes:
    return socket.inet_pton(family, address[0].partition("%")[0]).ljust(16, b"\0")
