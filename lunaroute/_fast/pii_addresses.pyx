"""IPv4 and IPv6 addresses. Imports nothing of ours but pii_text, pii_digits and pii_words."""

from libc.stdint cimport uint8_t

from lunaroute._fast.pii_digits cimport POINT, Number, size_of, value
from lunaroute._fast.pii_text cimport (
    ALNUM, ALPHA, BLANK, DASH, DIGIT, HEX, IP, NOTHING, PRIVATE_ADDRESSES, WORD, Span, Text, at, escaped, has,
    lower, run, run_at_most, starts,
)
from lunaroute._fast.pii_words cimport AN_ADDRESS, AT_ONCE, A_VERSION, hints

# --- IPv4 -----------------------------------------------------------------------------------------------------------
cdef bint ipv4_public(int a, int b, int c) noexcept nogil:
    """Whether a network is reachable from everywhere: not in IANA's special registry (RFC 6890), no multicast."""
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return False
    if a == 100:
        return not 64 <= b <= 127
    if a == 169:
        return b != 254
    if a == 172:
        return not 16 <= b <= 31
    if a == 192:
        return b != 168 and not (b == 0 and (c == 0 or c == 2))
    if a == 198:
        return b != 18 and b != 19 and not (b == 51 and c == 100)
    return not (a == 203 and b == 0 and c == 113)


cdef bint ipv4(const Text *t, const Number *num, Py_ssize_t last, Span *found) noexcept nogil:
    cdef int k, hint
    cdef int[4] part
    cdef Py_ssize_t start = num.starts[0], end = num.ends[3]
    cdef uint8_t c, before = at(t, start - 1), before2 = at(t, start - 2)
    cdef int small = 0
    for k in range(4):
        if size_of(num, k) > 3 or (k and num.separator[k] != POINT):
            return False
        part[k] = value(num, num.first[k], size_of(num, k))
        if part[k] > 255 or (size_of(num, k) > 1 and num.digits[num.first[k]] == 0):
            return False
        small += part[k] < 20
    if num.groups > 4 and num.separator[4] & POINT:
        return False
    # what it is part of: v1.2.3.4, pkg==1.2.3.4, ~1.2.3.4, Chrome/1.2.3.4 (not //1.2.3.4, not host/1.2.3.4:80)
    c = at(t, end)
    if start - 1 > last and start > 0:
        if has(before, WORD):
            if not escaped(t, start):
                return False
        elif before == c"/":
            if has(before2, WORD) and not (c == c":" and has(at(t, end + 1), DIGIT)):
                return False
        elif before == c"=":
            if before2 == c"=" or before2 == c"~" or before2 == c">" or before2 == c"<" or before2 == c"!":
                return False
        elif before == c">":
            if before2 == c" " or before2 == c'"' or before2 == c"'" or start == 1:
                return False
        elif before in b".-+^~<$":
            return False
    if has(c, WORD) or ((c == c"." or c == c"+") and has(at(t, end + 1), WORD)):
        return False
    if c == c"-" and has(at(t, end + 1), WORD):
        # 1.2.3.4-5.6.7.8 is a range, 1.2.3.4-5 and 1.2.3.4-rc1 are versions
        if at(t, run(t, end + 1, DIGIT)) != c"." or run(t, end + 1, DIGIT) == end + 1:
            return False
    # arcs of object identifiers (X.520, X.509): 2.5.4.x, 2.5.29.x; 1.3.6.x and others
    if part[0] == 2 and part[1] == 5 and part[2] in (4, 29):
        return False
    if part[0] == 1 and part[1] == 3 and part[2] in (6, 14, 36, 101, 132):
        return False
    if not t.switches & PRIVATE_ADDRESSES:
        # 1.2.3.4 is what people write for any
        if not ipv4_public(part[0], part[1], part[2]) or (part[0] == 1 and part[1] == 2 and part[2] == 3):
            return False
    hint = hints(t, start)
    if hint & AT_ONCE or hint & A_VERSION and not hint & AN_ADDRESS:
        return False
    if has(before, BLANK) and has(before2, DIGIT) and has(c, BLANK) and has(at(t, end + 1), DIGIT):
        if not hint & AN_ADDRESS:
            return False        # a row of numbers: the path of an SVG
    if small > 2 and not hint & AN_ADDRESS and not (before == c"/" and before2 == c"/") and not (
            (c == c":" or c == c"/") and has(at(t, end + 1), DIGIT)):
        return False            # a section of a document, a version
    found.kind, found.name = IP, 0
    found.start, found.end = start, end
    return True


# --- IPv6 -----------------------------------------------------------------------------------------------------------
cdef bint ipv6_public(const int *group) noexcept nogil:
    """Whether an address is reachable from everywhere: not in IANA's special registry (RFC 6890), no multicast."""
    cdef int a = group[0], b = group[1], k, high = 0
    for k in range(5):
        high |= group[k]
    if high == 0 and group[5] == 0xFFFF or (a == 0x64 and b == 0xFF9B):      # mapped, or through NAT64 (RFC 6052)
        return ipv4_public(group[6] >> 8, group[6] & 255, group[7] >> 8)
    if high == 0 and group[5] == 0:
        return False            # ::, ::1, and the old compatible form
    if a == 0x100 and b == 0 and group[2] == 0:
        return False            # discard only
    if a == 0x2001 and (b < 0x200 or b == 0xDB8):
        return a == 0x2001 and b in (1, 3, 4) or 0x20 <= b <= 0x3F
    if a == 0x2002:             # 6to4 of an IPv4 address
        return ipv4_public(b >> 8, b & 255, group[2] >> 8)
    if a == 0x3FFF and b < 0x1000 or a == 0x5F00:
        return False            # documentation (RFC 9637), segment routing
    # fc00::/7, fe80::/10 and fec0::/10 are local, ff00::/8 is multicast
    return not (a >> 9 == 0xFC >> 1 or a >> 7 == 0xFE80 >> 7 or a >> 8 == 0xFF)


cdef Py_ssize_t ipv6(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The address whose first colon is at i, in `found`; where to go on (RFC 4291 2.2, RFC 4007 11 for zones)."""
    cdef int[8] group, tail
    cdef int heads = 0, tails = 0, v, k, octet, dots, digits = 0
    cdef bint gap = False, letters = False
    cdef Py_ssize_t start, j, step, end, at_
    found.kind = NOTHING
    start = i
    while start > 0 and i - start < 5 and has(t.p[start - 1], HEX):
        start -= 1
    if i - start > 4:
        return i + 1
    if has(at(t, start - 1), WORD) and not escaped(t, start) or start > 0 and t.p[start - 1] in b":.":
        return i + 1
    if at(t, start - 1) == c"-" and has(at(t, start - 2), WORD):
        return i + 1
    j = end = start
    if i == start and at(t, i + 1) != c":":
        return i + 1
    while heads + tails < 8:
        # a group, or an IPv4 address instead of the last two
        step = run_at_most(t, j, HEX, 5)
        if step - j > 4:
            break
        if step == j:
            if not gap and at(t, j) == c":" and (j == start or t.p[j - 1] == c":"):
                # :: once
                j += 2 if j == start else 1
                gap = True
                end = j
                continue
            break
        if at(t, step) == c"." and heads + tails <= 6 and has(at(t, step + 1), DIGIT) and (gap or heads == 6):
            at_, dots = j, 0
            v = 0
            for k in range(4):
                octet, step = 0, at_
                while step < t.n and step - at_ < 3 and has(t.p[step], DIGIT):
                    octet = octet * 10 + t.p[step] - 48
                    step += 1
                if step == at_ or octet > 255:
                    break
                v = v << 8 | octet
                dots += 1
                at_ = step
                if k < 3:
                    if at(t, at_) != c".":
                        break
                    at_ += 1
            if dots != 4:
                break
            if gap:
                tail[tails], tail[tails + 1] = v >> 16 & 0xFFFF, v & 0xFFFF
                tails += 2
            else:
                group[heads], group[heads + 1] = v >> 16 & 0xFFFF, v & 0xFFFF
                heads += 2
            digits += 4
            end = at_
            break
        v = 0
        for k in range(<int>(step - j)):
            v = v << 4 | (lower(t.p[j + k]) - 87 if has(t.p[j + k], ALPHA) else t.p[j + k] - 48)
            digits += has(t.p[j + k], DIGIT)
        if gap:
            tail[tails] = v
            tails += 1
        else:
            group[heads] = v
            heads += 1
        end = j = step
        if at(t, j) != c":":
            break
        j += 1
    if heads + tails > 8 or (gap and heads + tails > 7) or (not gap and heads != 8):
        return i + 1
    if not digits and not t.switches & PRIVATE_ADDRESSES:
        return i + 1            # dead::beef is more often a name
    if has(at(t, end), WORD) or at(t, end) == c":" and (has(at(t, end + 1), HEX) or at(t, end + 1) == c":"):
        return i + 1
    if at(t, end) == c"." and has(at(t, end + 1), DIGIT):
        return i + 1
    for k in range(heads, 8):
        group[k] = 0
    for k in range(tails):
        group[8 - tails + k] = tail[k]
    if not t.switches & PRIVATE_ADDRESSES:
        if not ipv6_public(group):
            return end
        # a name of C++ or Rust more likely, outside of what is given to networks (2000::/3)
        if gap and group[0] >> 13 != 1 and heads + tails < 4 and not (group[5] == 0xFFFF or group[0] == 0x64):
            return i + 1
    if at(t, end) == c"%" and has(at(t, end + 1), ALNUM):
        end = run_at_most(t, end + 1, WORD | DASH, 16)
    found.kind, found.name = IP, 1
    found.start, found.end = start, end
    return end
