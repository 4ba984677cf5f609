"""Mail addresses. Imports nothing of ours but pii_text and pii_tlds."""

from libc.stdint cimport uint8_t, uint32_t

from lunaroute._fast.pii_tlds cimport known
from lunaroute._fast.pii_text cimport (
    ALNUM, ALPHA, DASH, EMAIL, LINE, LOWER, NOTHING, RESERVED_DOMAINS, UPPER, WORD, Span, Text, at, escaped, has,
    invisible, letter, lower, point, point_before, starts, visible,
)

cdef enum:
    LOCAL_MAX = 64              # RFC 5321 4.5.3.1.1
    DOMAIN_MAX = 255
    LABELS = 12


cdef int script(uint32_t c) noexcept nogil:
    """0 for alphabets, 1 for scripts that are written without blanks, so that what stands before a name touches it."""
    return 1 if 0xE00 <= c < 0x1000 or 0x3000 <= c < 0xA000 else 0


cdef Py_ssize_t mailbox(const Text *t, Py_ssize_t i) noexcept nogil:
    """Where the local part begins that ends before i; i where there is none.

    Of RFC 5322's atoms only what people have in their addresses: letters, digits, . _ + - and ' between letters. The
    others (= / ? & % { | and so on) are what stands before an address in code and in URLs.
    """
    cdef Py_ssize_t start = i, k = i, size
    cdef uint32_t c
    cdef int kind = -1, count = 0
    while k > 0:
        c = t.p[k - 1]
        size = 1
        if c >= 0x80:
            size = point_before(t, k, &c)
            if invisible(c):
                k -= size
                continue
            if not letter(c) or (kind >= 0 and script(c) != kind and not 0xFF10 <= c <= 0xFF5A):
                break
            if not 0xFF10 <= c <= 0xFF5A:
                kind = script(c)
        elif has(c, ALNUM):
            if kind == 1 and has(c, ALPHA):
                break
            if kind < 0 and has(c, ALPHA):
                kind = 0
            # the n of a line break that was left as \n
            if k >= 2 and t.p[k - 2] == c"\\" and escaped(t, k):
                break
        elif c == c"'":
            # o'brien, d'angelo; not b'joe and not ='joe
            if k < 2 or not has(at(t, k), ALPHA) or k == i:
                break
            if not (has(t.p[k - 2], ALPHA) and lower(t.p[k - 2]) in b"odlmn" and not has(at(t, k - 3), WORD)
                    and (k < 3 or t.p[k - 3] in b" \t\n<:,;\"(")):
                break
        elif c == c".":
            if k == i or at(t, k) == c".":
                break
        elif c != c"_" and c != c"+" and c != c"-":
            break
        count += 1
        if count > LOCAL_MAX:
            return i            # a blob
        k -= size
        start = k
    # what may not be first: a dot, and what is a bullet or an option there
    while start < i and t.p[start] in b".-+'":
        start += 1
    return start


cdef Py_ssize_t quoted(const Text *t, Py_ssize_t i) noexcept nogil:
    """Where a quoted local part begins, "john doe"@host (RFC 5321 4.1.2); i where there is none."""
    cdef Py_ssize_t k = i - 1, stop = i - LOCAL_MAX - 2
    while k > 0 and k > stop:
        k -= 1
        if has(t.p[k], LINE):
            return i
        if t.p[k] == c'"':
            return k if k < i - 2 and not has(at(t, k - 1), ALNUM) and at(t, k - 1) != c"\\" else i
    return i


cdef bint reserved(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """example.com, .org and .net with all below them; .example, .test, .invalid, .localhost (RFC 2606, 6761), .local
    (RFC 6762), .internal (ICANN 2024)."""
    cdef Py_ssize_t last = end
    while last > start and t.p[last - 1] != c".":
        last -= 1
    if nobodys(t, last, end) or label_is(t, last, end, b"localhost", 9):
        return True
    if not (label_is(t, last, end, b"com", 3) or label_is(t, last, end, b"org", 3)
            or label_is(t, last, end, b"net", 3)):
        return False
    return last - 8 >= start and starts(t, last - 8, b"example.", 8) and (last - 8 == start or t.p[last - 9] == c".")


cdef bint label_is(const Text *t, Py_ssize_t start, Py_ssize_t end, const char *word, Py_ssize_t size) noexcept nogil:
    return end - start == size and starts(t, start, word, size)


cdef bint nobodys(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether this label is a top-level domain that is in no list, because it was set aside."""
    return (label_is(t, start, end, b"example", 7) or label_is(t, start, end, b"test", 4)
            or label_is(t, start, end, b"invalid", 7) or label_is(t, start, end, b"local", 5)
            or label_is(t, start, end, b"internal", 8))


cdef bint ends_there(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether this label is a top-level domain."""
    cdef uint8_t[24] name
    cdef Py_ssize_t k
    if end - start > 24:
        return False
    for k in range(start, end):
        name[k - start] = lower(t.p[k])
    return known(name, end - start)


cdef Py_ssize_t host(const Text *t, Py_ssize_t i) noexcept nogil:
    """Behind the domain that begins at i and ends in a top-level domain; i where there is none."""
    cdef Py_ssize_t k = i, size, label = i, end
    cdef Py_ssize_t[LABELS] ends, starts_
    cdef uint32_t c
    cdef int labels = 0
    cdef bint ascii = True, mixed
    while k < t.n and k - i < DOMAIN_MAX:
        c = t.p[k]
        size = 1
        if c >= 0x80:
            size = point(t, k, &c)
            if invisible(c) and k > label:
                k += size
                continue
            if c == 0xFF0E or c == 0x3002:      # full-width and ideographic full stop (RFC 3490 3.1)
                c = 0x2E
            elif not letter(c):
                break
            elif script(c) == 1 and labels and k > label and ends_there(t, label, k):
                break           # in Japanese the sentence goes on without a blank
        elif not has(c, ALNUM | DASH) and c != 0x2E:
            break
        if c == 0x2E:
            if k == label or labels == LABELS:
                break
            starts_[labels], ends[labels] = label, k
            labels += 1
            label = k + size
        k += size
    if k > label and labels < LABELS:
        starts_[labels], ends[labels] = label, k
        labels += 1
    # the last label that is a top-level domain ends it: but only what begins a new sentence may be cut off
    while labels > 1:
        label, end = starts_[labels - 1], ends[labels - 1]
        while end > label and t.p[end - 1] == c"-":
            end -= 1
        ascii, mixed = True, False
        for k in range(label, end):
            ascii &= t.p[k] < 0x80
            mixed |= k > label and has(t.p[k], UPPER) and has(t.p[k - 1], LOWER)
        if not ascii:
            if end - label >= 4:
                return end
        elif end - label <= 24 and not mixed:
            if ends_there(t, label, end):
                # x@y.py is a file; Paraguay gives names below com.py and others only
                return i if labels == 2 and end - label == 2 and starts(t, label, b"py", 2) else end
            if t.switches & RESERVED_DOMAINS and nobodys(t, label, end):
                return end
        if not (has(t.p[label], UPPER) and labels > 2):
            return i
        labels -= 1
    return i


cdef bint shell(const Text *t, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Whether this is who logs in where: git@host, ssh user@host, user@host:/path, user@host:~$, //user@host/."""
    cdef Py_ssize_t i, k
    cdef uint8_t before
    if (t.p[start] == c"g" and end > start + 4 and starts(t, start, b"git@", 4)) or starts(t, start, b"hg@", 3):
        return True
    i = start
    # the authority of a URL: //user@ or //user:password@
    while i > 0 and start - i < 128:
        before = t.p[i - 1]
        if before == c"/":
            if i >= 2 and t.p[i - 2] == c"/":
                return True
            break
        if not has(before, WORD | DASH) and before not in b":.%+!$&*":
            break
        i -= 1
    if at(t, end) == c":":
        k = end + 1
        if at(t, k) in b"/~.":
            return True
        while k < t.n and k - end < 128 and (has(t.p[k], WORD | DASH) or t.p[k] == c"."):
            k += 1
        if at(t, k) == c"/" and k > end + 1:
            return True
    # ssh, scp, sftp, rsync, mosh before it on the line
    i = start
    while i > 0 and start - i < 96 and not has(t.p[i - 1], LINE):
        i -= 1
        if t.p[i] in b"smr" and not has(at(t, i - 1), WORD) and (
                starts(t, i, b"ssh ", 4) or starts(t, i, b"scp ", 4) or starts(t, i, b"sftp ", 5)
                or starts(t, i, b"ssh-copy-id ", 12) or starts(t, i, b"rsync ", 6) or starts(t, i, b"mosh ", 5)):
            return True
    return False


cdef Py_ssize_t email(const Text *t, Py_ssize_t i, Py_ssize_t size, Span *found) noexcept nogil:
    """The mail address around the @ (or its full-width form, or %40) at i, in `found`; where to go on."""
    cdef Py_ssize_t end = i + size, k = i, start, behind
    cdef uint32_t c
    found.kind = NOTHING
    behind = visible(t, end)
    if behind >= t.n or not (has(t.p[behind], ALNUM) or t.p[behind] >= 0x80):
        return end
    while k > 0 and t.p[k - 1] >= 0x80:
        start = point_before(t, k, &c)
        if not invisible(c):
            break
        k -= start
    if k == 0:
        return end
    start = mailbox(t, k) if t.p[k - 1] != c'"' else quoted(t, k)
    if start == k:
        return end
    k = host(t, behind)
    if k == behind:
        return end
    if at(t, k) == c"(" or at(t, k) == c"@" or at(t, k) == c"[" or at(t, k) == c"_":
        return end              # a@b.to(c), and what is no host
    if shell(t, start, k):
        return k
    if reserved(t, behind, k) and not t.switches & RESERVED_DOMAINS:
        return k
    found.kind, found.name = EMAIL, 0
    found.start, found.end = start, k
    return k


