"""Has a client that half-closed its connection gone, or does it still wait for its answer?

A process that ends or calls close() sends the same FIN as shutdown(SHUT_WR). The kernel knows the difference: a socket
without an owner has no inode. Where the client is on this machine, Linux tells (`/proc/net/tcp`, proc_net_tcp.txt);
elsewhere nobody does. Read only when a FIN came in the middle of an exchange.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from pathlib import Path
from typing import Any

TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}


def has_gone(transport: Any) -> bool | None:
    """True: the peer's socket has no process behind it any more; False: it has; None: cannot be told."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not peer or not own:
        return True
    if not ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback:
        return None
    family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
    try:
        table = TABLES[family].read_bytes()
    except OSError:
        return None
    return orphaned(table, _entry(peer, family), _entry(own, family))


def orphaned(table: bytes, local: bytes, remote: bytes) -> bool:
    """The socket local -> remote of the kernel's table has no inode, or is not there at all."""
    wanted = local + b" " + remote + b" "
    at = table.find(wanted)
    if at < 0:
        return True
    # sl local remote st queues timer retransmits uid timeout inode; `at` stands at local
    fields = table[at : table.find(b"\n", at)].split()
    return len(fields) > 8 and fields[8] == b"0"


def _entry(address: tuple[Any, ...], family: int) -> bytes:
    """An address as the kernel prints it: hexadecimal words in host order, colon, port."""
    packed = socket.inet_pton(family, address[0].partition("%")[0])
    words = [packed[i : i + 4] for i in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return (b"".join(words).hex().upper() + f":{address[1]:04X}").encode()
