"""Heads written anew, in one pass over what the scanner found. No allocation, no I/O.

All fields go as received, in their order, with their case, their duplicates and the blanks around their values; runs of
lines that stay are copied as one. What changes: hop-by-hop fields go (RFC 9110 7.6.1), framing is ours (RFC 9112 6),
Host and credentials as the plan says.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy

from lunaroute._fast.http1 cimport (
    CONNECTION, CONTENT_LENGTH, Field, HOP, HOST, OTHER, Scan, TRANSFER_ENCODING, UPGRADE, same,
)


cdef bint plain_length(const char *p, const Field *f) noexcept:
    """The Content-Length reads exactly as we would write it."""
    return f.value_len == 1 or p[f.value] != c"0"


cdef char *line(char *at, const char *name, uint32_t n, bytes value) noexcept:
    """A field line with the name as it came."""
    memcpy(at, name, n)
    at += n
    at[0] = c":"
    at[1] = c" "
    at += 2
    memcpy(at, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    at += PyBytes_GET_SIZE(value)
    at[0] = c"\r"
    at[1] = c"\n"
    return at + 2


cdef char *length_line(char *at, const char *p, const Field *f, long long value) noexcept:
    memcpy(at, p + f.line, f.name_len)
    at += f.name_len
    return at + snprintf(at, 32, b": %lld\r\n", value)


cdef bint replaces(const char *p, const Field *f, object names):
    return PyBytes_FromStringAndSize(p + f.line, f.name_len).lower() in names


cdef Py_ssize_t request_head(const char *p, const Scan *s, char *out, bytes prefix, int strip, bytes authority,
                             bytes extra, int drop, object replaced, bint websocket) except -1:
    """A request's head for the provider: `strip` bytes of the target's front give way to `prefix`, Host says
    `authority`, fields of the kinds in `drop` (1 << Kind) and of the names in `replaced` go, the lines `extra` come last.
    Returns the size of what stands in `out`, which must have room."""
    cdef char *at = out
    cdef Py_ssize_t n
    cdef uint32_t run = s.first        # start of a run of lines that go as they are
    cdef int k
    cdef const Field *f
    memcpy(at, p, s.method_len + 1)
    at += s.method_len + 1
    n = PyBytes_GET_SIZE(prefix)
    memcpy(at, PyBytes_AS_STRING(prefix), n)
    at += n
    memcpy(at, p + s.target + strip, s.target_len - strip)
    at += s.target_len - strip
    memcpy(at, b" HTTP/1.1\r\n", 11)
    at += 11
    for k in range(s.count):
        f = &s.fields[k]
        if f.kind == OTHER and (replaced is None or not replaces(p, f, replaced)):
            continue
        if f.kind == CONTENT_LENGTH and plain_length(p, f) or f.kind > UPGRADE and not drop & (1 << f.kind):
            continue
        if websocket and (f.kind == UPGRADE or f.kind == CONNECTION and same(p + f.value, f.value_len, b"upgrade", 7)):
            continue
        memcpy(at, p + run, f.line - run)
        at += f.line - run
        run = f.end
        if f.kind == HOST:
            at = line(at, p + f.line, f.name_len, authority)
        elif f.kind == CONTENT_LENGTH:
            at = length_line(at, p, f, s.content_length)
        elif f.kind == TRANSFER_ENCODING:
            at = line(at, p + f.line, f.name_len, b"chunked")
        elif f.kind == CONNECTION and websocket:
            at = line(at, p + f.line, f.name_len, b"Upgrade")
    memcpy(at, p + run, s.head_len - 2 - run)
    at += s.head_len - 2 - run
    n = PyBytes_GET_SIZE(extra)
    memcpy(at, PyBytes_AS_STRING(extra), n)
    at += n
    at[0] = c"\r"
    at[1] = c"\n"
    return at + 2 - out


cdef Py_ssize_t answer_head(const char *p, const Scan *s, char *out, bint chunks, bint chunked_by_us,
                            bint close) noexcept:
    """An answer's head for the client. chunks: the client understands them (HTTP/1.1); chunked_by_us: the answer had no
    framing but its end, and gets ours; close: this is the connection's last answer. Returns the size of `out`."""
    cdef char *at = out
    cdef uint32_t run = s.first
    cdef uint32_t n = s.reason + s.reason_len - 8
    cdef bint may_have_body = s.status >= 200 and s.status != 204
    cdef bint framed = False
    cdef int k
    cdef const Field *f
    memcpy(at, b"HTTP/1.1", 8)
    memcpy(at + 8, p + 8, n)
    at += 8 + n
    at[0] = c"\r"
    at[1] = c"\n"
    at += 2
    for k in range(s.count):
        f = &s.fields[k]
        if f.kind == OTHER or f.kind == HOST or f.kind > UPGRADE:
            continue
        if f.kind == CONTENT_LENGTH and may_have_body and plain_length(p, f):
            continue
        if s.status == 101 and (f.kind == UPGRADE or f.kind == CONNECTION):
            continue
        memcpy(at, p + run, f.line - run)
        at += f.line - run
        run = f.end
        if f.kind == CONTENT_LENGTH and may_have_body:
            at = length_line(at, p, f, s.content_length)
        elif f.kind == TRANSFER_ENCODING and chunks and may_have_body:
            at = line(at, p + f.line, f.name_len, b"chunked")
            framed = True
    memcpy(at, p + run, s.head_len - 2 - run)
    at += s.head_len - 2 - run
    if s.status >= 200:
        if chunked_by_us and not framed:
            memcpy(at, b"Transfer-Encoding: chunked\r\n", 28)
            at += 28
        if close:
            memcpy(at, b"Connection: close\r\n", 19)
            at += 19
    at[0] = c"\r"
    at[1] = c"\n"
    return at + 2 - out
