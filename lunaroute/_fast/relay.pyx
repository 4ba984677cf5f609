"""Both ends of the relay: the client's connection (Downstream) and the provider's (Upstream), and what lies between.

Thin Protocol classes: asyncio callbacks, flow control, splice, tap. What to do with a request is decided once, by the
Plan that the router gave for its path and signals; bodies are then moved as they come, one write per event. Everything
that is rare (connecting, our own answers, handshakes) is a Python method of the subclasses in lunaroute/proxy.

An exchange walks through the states of relay.pxd:

    IDLE -> RECEIVING_HEAD -> CONNECTING -> SENDING -> AWAITING_HEAD -> STREAMING -> IDLE
                          \\-> LOCAL -> IDLE        \\-> TUNNEL
    and from anywhere -> LINGERING -> CLOSED

MOVES is the whole table; a move that is not in it raises. STREAMING may begin while the request is still being sent (an
early answer); `body` says whether request bytes are still to come.

One module, and a long one: the two ends hold each other as C types, which Cython cannot split over modules. What does
not need their types is elsewhere (http1: scanning and chunks; rewrite: heads; tls; ring).

llhttp (httptools) sees every byte of both directions, with only its head and end-of-message callbacks set. Our scanner
decides, llhttp must agree: where the two see a message end at different places, the message is refused.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from httptools import HttpParserUpgrade, HttpRequestParser, HttpResponseParser
from httptools.parser.errors import HttpParserError

from lunaroute._fast.http1 cimport (
    ACCOUNT, API_KEY, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTROL, FIELDS_MAX, Field, FOREIGN, HOP, HOST, INCOMPLETE, Limits,
    OTHER, OURS, Scan, Span, TRANSFER_ENCODING, UPGRADE, VENDOR_KEY, WEBSOCKET, chunks_between, chunks_done, chunks_feed,
    chunks_start, head_end, scan_request, scan_response, same,
)
from lunaroute._fast.rewrite cimport answer_head, request_head
from lunaroute._fast.ring cimport Writer
from lunaroute._fast.tls cimport Tls

cdef extern from *:
    """
    #include <errno.h>
    #include <poll.h>
    #include <stdint.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <string.h>
    #include <sys/types.h>
    #include <sys/uio.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0          /* macOS: the interpreter ignores SIGPIPE */
    #endif
    #ifndef POLLRDHUP
    #define POLLRDHUP 0
    #endif
    #ifdef __GLIBC__
    #include <malloc.h>
    #define lr_trim() malloc_trim(0)
    #else
    #define lr_trim() 0
    #endif
    static int64_t lr_fixed = 0;         /* a hand-driven clock for tests; 0 = the real one */
    static inline int64_t lr_clock(void) {
        if (lr_fixed) return lr_fixed;
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static int64_t lr_wall(void) {
        struct timespec t; clock_gettime(CLOCK_REALTIME, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static int lr_hung_up(int fd) {
        struct pollfd p = {fd, POLLRDHUP, 0};
        return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
    }
    static ssize_t lr_send(int fd, const char *p, size_t n) {
        return send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static ssize_t lr_send_two(int fd, const char *a, size_t an, const char *b, size_t bn) {
        struct iovec v[2] = {{(void *)a, an}, {(void *)b, bn}};
        struct msghdr m; memset(&m, 0, sizeof m); m.msg_iov = v; m.msg_iovlen = 2;
        return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    static void lr_keepalive(int fd) {
        int on = 1; setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
    static int lr_readable(int fd) {
        char c; ssize_t r = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
        return !(r < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
    }
    """
    int lr_trim() noexcept nogil
    int64_t lr_fixed
    int64_t lr_clock() noexcept nogil
    int64_t lr_wall() noexcept nogil
    Py_ssize_t lr_send(int fd, const char *p, size_t n) noexcept nogil
    Py_ssize_t lr_send_two(int fd, const char *a, size_t an, const char *b, size_t bn) noexcept nogil
    void lr_keepalive(int fd) noexcept nogil
    bint lr_hung_up(int fd) noexcept nogil
    bint lr_readable(int fd) noexcept nogil

# indexes into tap.COUNTERS and kinds of tap events (tests/test_tap.py compares them)
cdef enum:
    CONNECTIONS_OPEN = 0
    CONNECTIONS_TOTAL = 1
    REQUESTS_TOTAL = 2
    REQUESTS_IN_FLIGHT = 3
    UPSTREAM_OPEN = 4
    UPSTREAM_IDLE = 5
    UPSTREAM_CONNECTS = 6
    UPSTREAM_REUSES = 7
    TUNNELS_OPEN = 8
    REJECTED_TOTAL = 9
    RESPONSES = 13              # + status class: 15 = 2xx ... 18 = 5xx
    TUNNELS_TOTAL = 19

cdef enum:
    TAP_OPEN = 1
    TAP_REQUEST_BODY = 2
    TAP_ATTEMPT = 3
    TAP_RESPONSE_HEAD = 4
    TAP_RESPONSE_BODY = 5
    TAP_LOCAL_ANSWER = 6
    TAP_CLIENT_FRAMES = 7
    TAP_SERVER_FRAMES = 8
    TAP_CLOSE = 9
    TAP_ATTEMPT_FAILED = 10

# outcomes: indexes into tap.STATES
cdef enum:
    OK = 0
    UPSTREAM_ERROR = 1
    CLIENT_CANCELLED = 2
    TIMEOUT = 3
    PROXY_ERROR = 4

cdef enum:
    SPANS = 128                 # payload spans of one decoding step
    FEW = 4                     # chunks of one read that are told and framed each by itself
    JOIN_MAX = 32768            # body pieces up to this are copied behind the head: cheaper than a second buffer
    RESCAN_MAX = 4096           # a head that came in pieces is scanned anew at each piece up to this size
    PENDING_MAX = 65536         # bytes of a next request held while this one runs
    INTERIM_MAX = 32            # 1xx answers to one request
    BLANK_MAX = 8               # bytes of blank lines before a request line (RFC 9112 2.2)
    DRAIN_MAX = 4194304         # bytes thrown away while lingering

# for lunaroute.proxy
PROVIDER_FAILED = UPSTREAM_ERROR
PROXY_FAILED = PROXY_ERROR

cdef int64_t SECOND = 1000000000
cdef int64_t LINGER_NS = 2 * SECOND
cdef int64_t FLUSH_NS = 30 * SECOND
cdef int64_t SPARE_AFTER_NS = 5 * SECOND
cdef int64_t QUIET_TUNNEL_NS = 3 * SECOND
cdef bytes GOING_AWAY = b"\x88\x02\x03\xe9"        # a close frame with 1001 (RFC 6455 7.4.1)

# MOVES[from] has bit `to` set where the move is legal
cdef int[10] MOVES
MOVES[:] = [
    1 << RECEIVING_HEAD | 1 << CONNECTING | 1 << SENDING | 1 << LOCAL | 1 << LINGERING | 1 << CLOSED,       # IDLE
    1 << CONNECTING | 1 << SENDING | 1 << LOCAL | 1 << LINGERING | 1 << CLOSED,                             # RECEIVING_HEAD
    1 << SENDING | 1 << IDLE | 1 << LINGERING | 1 << CLOSED,                                                # CONNECTING
    1 << AWAITING_HEAD | 1 << STREAMING | 1 << IDLE | 1 << CONNECTING | 1 << LINGERING | 1 << CLOSED,       # SENDING
    1 << STREAMING | 1 << TUNNEL | 1 << IDLE | 1 << LINGERING | 1 << CLOSED,                                # AWAITING_HEAD
    1 << IDLE | 1 << LINGERING | 1 << CLOSED,                                                               # STREAMING
    1 << LINGERING | 1 << CLOSED,                                                                           # TUNNEL
    1 << IDLE | 1 << LINGERING | 1 << CLOSED,                                                               # LOCAL
    1 << CLOSED,                                                                                            # LINGERING
    0,                                                                                                      # CLOSED
]
STATES = ("idle", "receiving_head", "connecting", "sending", "awaiting_head", "streaming", "tunnel", "local",
          "lingering", "closed")

cdef Scan S                     # the head being looked at; valid only until the next scan


def set_clock(int64_t ns):
    """Drive the relay's clock by hand (tests); 0 gives the real one back."""
    global lr_fixed
    lr_fixed = ns


def give_back():
    """Return freed heap memory to the system (glibc); for quiet moments, it takes a millisecond or so."""
    lr_trim()


def now_ns():
    """The relay's clock: CLOCK_MONOTONIC in ns, or what set_clock() said."""
    return lr_clock()


cdef class Settings:
    """What all connections of one server share. The hooks are set by lunaroute.proxy.

    loop: the event loop; tap: the ring; limits: an object with the fields of config.Limits.
    """

    def __cinit__(self, loop, Writer tap, limits, bint recording=True):
        self.loop = loop
        self.tap = tap
        self.recording = recording
        self.live = set()
        self.plans = {}
        self.parting = []
        self.host_seen = b""
        self.limits.head_bytes = limits.head_bytes
        self.limits.header_count = min(limits.header_count, FIELDS_MAX)
        self.limits.url_bytes = limits.url_bytes
        self.limits.trailer_bytes = limits.trailer_bytes
        self.limits.extension_bytes = limits.chunk_extension_bytes
        self.limits.body_bytes = limits.body_bytes
        self.connections_max = limits.connections
        self.head_timeout = <int64_t>(limits.head_timeout_secs * 1e9)
        self.keepalive_timeout = <int64_t>(limits.keepalive_timeout_secs * 1e9)
        # a head may grow by the prefix, the authority and the configured fields
        self.scratch_size = limits.head_bytes + JOIN_MAX + 65536
        self.scratch = <char *>malloc(self.scratch_size)
        if self.scratch == NULL:
            raise MemoryError
        self.wall = lr_wall() - lr_clock()

    def __dealloc__(self):
        free(self.scratch)

    cdef Plan plan(self, bytes method, bytes path, int signals):
        key = (path, signals, method)
        found = self.plans.get(key)
        if found is None:
            found = self.route(method, path, signals)
            if found.credential is not None:
                return <Plan>found              # where it goes depends on what the login file holds now
            if len(self.plans) >= 1024:
                self.plans.clear()
            self.plans[key] = found
        return <Plan>found

    cdef bint host_ok(self, const char *p, uint32_t n):
        """The Host value is a well-formed authority and one of ours (security.md L2)."""
        cdef bytes value
        if n == <uint32_t>PyBytes_GET_SIZE(self.host_seen) and n and memcmp(p, PyBytes_AS_STRING(self.host_seen), n) == 0:
            return True
        value = PyBytes_FromStringAndSize(p, n)
        if not self.host_allowed(value):
            return False
        self.host_seen = value
        return True

    def host_allowed(self, bytes value):
        """Overridden by the proxy: RFC 3986 authority rules and the allow-list."""
        raise NotImplementedError

    def forget_plans(self):
        """The router's answers have changed."""
        self.plans.clear()
        self.plans_version += 1

    def tick(self):
        """Look at every connection's deadlines; called a few times a second."""
        cdef Downstream connection
        cdef int64_t now = lr_clock()
        self.wall = lr_wall() - now if lr_fixed == 0 else self.wall
        for each in list(self.live):
            connection = <Downstream>each
            connection.check(now)
        if self.parting:
            for deadline, transport in self.parting:
                if now >= deadline:
                    transport.abort()
            self.parting = [each for each in self.parting if now < each[0]]


cdef class Plan:
    """What to do with the requests of one path and one kind of credential. Made by proxy/plans.py, kept in a table."""

    def __repr__(self):
        return f"<Plan {self.provider} {self.dialect} {self.prefix!r}>"


cdef class Pool:
    """Free connections to one origin. lunaroute.proxy.pool adds the connecting."""

    def __cinit__(self):
        self.idle = []

    cdef Upstream take(self, int64_t now):
        """The freshest connection that is surely alive, or None."""
        cdef Upstream u
        self.used_at = now
        while self.idle:
            u = <Upstream>self.idle.pop()
            self.settings.tap.count(UPSTREAM_IDLE, -1)
            if u.lost or u.fd < 0:          # the latter: dropped, but its end not yet told by the loop
                continue
            # a close or stray bytes that arrived but were not yet seen: such a connection must not get a request (F7).
            # The look costs 3 % of a small exchange; without it an end that came with the answer itself would be missed
            if now - u.idle_since > self.idle_ns or lr_readable(u.fd):
                u.drop()
                continue
            self.settings.tap.count(UPSTREAM_REUSES, 1)
            return u
        return None

    cdef void put(self, Upstream u, int64_t now):
        u.idle_since = now
        if self.settings.draining or (self.waiters and lr_readable(u.fd)):
            u.drop()                        # a request that waits has another connection on its way
        elif self.waiters:
            self.serve(u)
        else:
            self.idle.append(u)
            self.settings.tap.count(UPSTREAM_IDLE, 1)

    def add(self, Upstream u):
        """A new connection is up: for the first that waits, or for the shelf."""
        self.put(u, lr_clock())

    def expire(self):
        """Close what has been idle for too long, and the oldest beyond the limit. Not at once: where many requests run,
        the shelf is fuller than the limit for moments again and again, and each new connection costs a handshake."""
        cdef int64_t now = lr_clock()
        cdef Py_ssize_t over = len(self.idle) - self.max_idle
        cdef Upstream u
        old = [x for x in self.idle if now - (<Upstream>x).idle_since > self.idle_ns]
        for u in self.idle[:max(over, 0)]:
            if now - u.idle_since > SECOND and u not in old:
                old.append(u)
        for u in old:
            self.idle.remove(u)
            self.settings.tap.count(UPSTREAM_IDLE, -1)
            u.drop()


cdef class Downstream:
    """A client's connection. lunaroute.proxy.downstream adds what is rare."""

    # --- asyncio's callbacks ------------------------------------------------------------------------------------

    def __cinit__(self, Settings settings):
        self.settings = settings
        self.tap = settings.tap

    def connection_made(self, transport):
        cdef Settings s = self.settings
        self.transport = transport
        self.write = transport.write
        self.fd = transport.get_extra_info("socket").fileno()
        lr_keepalive(self.fd)               # a laptop that vanished sends no FIN
        s.connections += 1
        self.number = s.connections
        s.live.add(self)
        self.tap.count(CONNECTIONS_OPEN, 1)
        self.tap.count(CONNECTIONS_TOTAL, 1)
        self.deadline = lr_clock() + s.keepalive_timeout
        if len(s.live) > s.connections_max:
            self.refused(503, "too many connections (limits.connections)", lr_clock())

    def data_received(self, bytes data):
        cdef int64_t now = lr_clock()
        try:
            if self.state <= RECEIVING_HEAD:
                if self.pending is not None:
                    data = self.pending + data
                    self.pending = None
                else:
                    self.started_at = now
                self.take(data, now)
            elif self.state == TUNNEL:
                self.last_at = now
                self.request_bytes += PyBytes_GET_SIZE(data)
                self.tell(TAP_CLIENT_FRAMES, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now)
                self.upstream.send(data)
            elif self.state == LINGERING:
                self.discarded += PyBytes_GET_SIZE(data)
                if self.discarded > DRAIN_MAX:
                    self.transport.abort()
            elif self.body != NOTHING:
                self.body_piece(data, now)
            else:
                self.pending = data if self.pending is None else self.pending + data
                if PyBytes_GET_SIZE(self.pending) > PENDING_MAX:
                    self.hold(HOLD_PIPELINE)
        except Exception as error:
            self.bug(error)

    def eof_received(self):
        cdef int64_t now = lr_clock()
        try:
            if self.state == CONNECTING or self.state == SENDING or self.state == AWAITING_HEAD or \
                    self.state == STREAMING or self.state == LOCAL:
                if self.body == NOTHING:
                    # the request is whole: perhaps the client still waits for its answer
                    self.half_closed = True
                    self.half_close()
                    return True
                self.cancel("the client closed the connection before its request was complete", now)
            elif self.state == TUNNEL:
                self.end_tunnel(OK, "the client closed the tunnel", now)
            return False
        except Exception as error:
            self.bug(error)

    def connection_lost(self, exc):
        cdef int64_t now = lr_clock()
        try:
            if self.state == TUNNEL:
                self.end_tunnel(OK, "the client closed the tunnel", now)
            elif self.state != IDLE and self.state != RECEIVING_HEAD and self.state < LINGERING:
                self.cancel("the client closed the connection", now)
            self.state = CLOSED
        except Exception as error:
            self.bug(error)
        self.settings.live.discard(self)
        self.tap.count(CONNECTIONS_OPEN, -1)
        self.fd = -1
        self.parser = None
        self.pending = None

    # --- flow control -------------------------------------------------------------------------------------------

    def pause_writing(self):
        self.write_paused = True
        if self.upstream is not None and not self.upstream.reading_paused:
            self.upstream.reading_paused = True
            self.upstream.transport.pause_reading()

    def resume_writing(self):
        self.write_paused = False
        self.last_at = lr_clock()
        if self.upstream is not None and self.upstream.reading_paused:
            self.upstream.reading_paused = False
            self.upstream.transport.resume_reading()

    cdef void hold(self, int why):
        if self.held == 0 and not self.transport.is_closing():
            self.transport.pause_reading()
        self.held |= why

    cdef void release(self, int why):
        if self.held and not (self.held & ~why) and not self.transport.is_closing():
            self.transport.resume_reading()
        self.held &= ~why

    # --- heads --------------------------------------------------------------------------------------------------

    cdef void move(self, int state) except *:
        if not MOVES[self.state] & (1 << state):
            raise RuntimeError(f"an exchange cannot go from {STATES[self.state]} to {STATES[state]}")
        self.state = state

    cdef void take(self, bytes data, int64_t now) except *:
        """Requests out of data, as many as can be begun now; what is left waits in `pending`."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t end
        cdef const char *p = PyBytes_AS_STRING(data)
        if self.looping:
            self.pending = data
            return
        self.looping = True
        try:
            while at < n:
                if self.state > RECEIVING_HEAD:
                    if self.state < LINGERING:
                        self.pending = data[at:]
                        if n - at > PENDING_MAX:
                            self.hold(HOLD_PIPELINE)
                    return
                if p[at] == c"\r" or p[at] == c"\n":
                    at = self.blank(p, at, n)
                    if at < 0:
                        self.refused(400, "too many blank lines before the request", now)
                        return
                    if at >= n:
                        break
                    if p[at] == c"\r":
                        self.wait_for_head(data, at, now)
                        return
                if self.searched > RESCAN_MAX and head_end(p + at, n - at, self.searched) < 0:
                    self.wait_for_head(data, at, now)
                    return
                end = self.begin(data, at, now)
                if end < 0:
                    return
                self.searched = 0
                at = end
        finally:
            self.looping = False

    cdef Py_ssize_t blank(self, const char *p, Py_ssize_t at, Py_ssize_t n):
        """Behind the CRLFs at `at` (a lone CR at the end stays), or -1 where there are too many or a bare LF."""
        cdef Py_ssize_t start = at
        while at + 1 < n and p[at] == c"\r" and p[at + 1] == c"\n":
            at += 2
        self.blanks += at - start
        if self.blanks > BLANK_MAX or (at < n and p[at] == c"\n") or (at + 1 < n and p[at] == c"\r"):
            return -1
        return at

    cdef void wait_for_head(self, bytes data, Py_ssize_t at, int64_t now) except *:
        """The head is not whole yet: keep it, set its deadline, bound it."""
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        if n - at > self.settings.limits.head_bytes:
            self.refused(431 if memchr(p + at, c"\n", n - at) != NULL else 414, "the request head is larger than limits.head_bytes", now)
            return
        if self.state == IDLE:
            self.move(RECEIVING_HEAD)
            self.deadline = now + self.settings.head_timeout
        self.pending = data[at:] if at else data
        self.searched = n - at

    cdef Py_ssize_t begin(self, bytes data, Py_ssize_t start, int64_t now) except -2:
        """Begin the exchange whose head is at data[start:]. Returns the offset behind what was used of data, or -1 where
        the head is not whole, the request was refused, or the connection is gone."""
        cdef Settings s = self.settings
        cdef const char *p = PyBytes_AS_STRING(data) + start
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data) - start
        cdef Py_ssize_t used, size, head_len
        cdef int status, signals, drop = 0
        cdef bytes first = None
        cdef list out = None
        cdef Plan plan

        status = scan_request(p, n, &S, &s.limits)
        if status == INCOMPLETE:
            self.wait_for_head(data, start, now)
            return -1
        head_len = S.head_len
        self.keep_alive = True
        if not self.same_target(p):
            self.method = PyBytes_FromStringAndSize(p, S.method_len)
            self.path = PyBytes_FromStringAndSize(p + S.target, S.path_len)
            self.last_plan = None
        self.minor = S.minor
        if status == 0 and head_len > s.limits.head_bytes:
            S.why = b"the request head is larger than limits.head_bytes"
            status = 431
        if status:
            if head_len or memchr(p, c"\n", n) != NULL:
                self.begin_record(p, head_len if head_len else min(n, s.limits.head_bytes), now)
            self.refused(status, (<bytes>S.why).decode(), now)
            return -1
        self.begin_record(p, head_len, now)
        self.keep_alive = S.minor == 1 and not S.close
        self.is_head = S.method_len == 4 and p[0] == c"H"
        if not s.host_ok(p + S.fields[S.host].value, S.fields[S.host].value_len):
            self.refused(421, "this Host is not allowed here; add it to allowed_hosts if it is yours", now)
            return -1
        signals = S.signals
        try:
            if S.origin >= 0 or S.fetch_site >= 0:
                s.origin_allowed(self.value(p, S.origin), self.value(p, S.fetch_site), self.value(p, S.host))
            signals &= ~CONTROL
            if s.gate is not None:
                signals, drop = s.gate(self.method, self.path, self.fields(p), signals)
            if self.last_plan is not None and signals == self.last_signals and self.plans_version == s.plans_version:
                plan = self.last_plan
            else:
                plan = s.plan(self.method, self.path, signals)
                self.last_plan = plan if plan.credential is None else None
                self.last_signals = signals
                self.plans_version = s.plans_version
        except Exception as error:
            if not hasattr(error, "status"):
                raise
            self.refused(error.status, str(error), now)
            return -1
        self.plan = plan

        self.request_bytes = 0
        self.left = 0
        if S.chunked:
            self.body = CHUNKED
            chunks_start(&self.chunks)
        elif S.content_length > 0:
            self.body = LENGTH
            self.left = S.content_length
        else:
            self.body = NOTHING
        self.websocket = plan.websocket and signals & WEBSOCKET != 0
        if self.websocket:
            self.websocket_key = dict(self.fields(p)).get(b"sec-websocket-key", b"")

        # the head is written before the body is decoded: S is gone after that
        if plan.local is None:
            size = self.write_head(p, plan, drop)
        else:
            size = 0
        used = head_len
        if self.body == LENGTH:
            used += min(self.left, n - head_len)
        elif self.body == CHUNKED:
            out = []
            used = self.body_part(data, start + head_len, out, now)
            if used < 0:
                self.refused(400, "the chunked request body is malformed", now)
                return -1
            used -= start
            if self.state == LINGERING:
                return -1
        if not self.agrees(data, start, start + used):
            return -1
        if plan.local is not None:
            if self.body == LENGTH:
                self.left -= used - head_len
                if self.left == 0:
                    self.body = NOTHING
            self.move(LOCAL)
            self.received_at = now
            plan.local(self)
            return start + used

        if self.body == LENGTH:
            self.left -= used - head_len
            self.request_bytes = used - head_len
            if self.left == 0:
                self.body = NOTHING
            if used > head_len:
                self.tell(TAP_REQUEST_BODY, p + head_len, used - head_len, now)
            self.go(size, p + head_len, used - head_len, None, now)
        else:
            if out:
                first = <bytes>out[0] if len(out) == 1 else b"".join(out)
            self.go(size, NULL, 0, first, now)
        if self.body == NOTHING and self.received_at == 0:
            self.received_at = now
        return start + used

    cdef bint same_target(self, const char *p):
        """Method and path are those of the request before on this connection."""
        return (
            self.path is not None and <uint32_t>PyBytes_GET_SIZE(self.path) == S.path_len
            and <uint32_t>PyBytes_GET_SIZE(self.method) == S.method_len
            and memcmp(PyBytes_AS_STRING(self.path), p + S.target, S.path_len) == 0
            and memcmp(PyBytes_AS_STRING(self.method), p, S.method_len) == 0
        )

    cdef object value(self, const char *p, int index):
        if index < 0:
            return None
        return PyBytes_FromStringAndSize(p + S.fields[index].value, S.fields[index].value_len)

    cdef list fields(self, const char *p):
        """[(name in lower case, value), ...] of the head in S."""
        cdef int k
        return [
            (PyBytes_FromStringAndSize(p + S.fields[k].line, S.fields[k].name_len).lower(), self.value(p, k))
            for k in range(S.count)
        ]

    cdef void begin_record(self, const char *p, Py_ssize_t head_len, int64_t now):
        cdef Settings s = self.settings
        cdef char[16] fixed
        s.exchanges += 1
        self.exchange = s.exchanges
        self.blanks = 0
        self.attempts = 0
        self.written = self.answered = False
        self.status = 0
        self.received_at = self.sent_at = 0
        self.request_bytes = self.response_bytes = self.lost = 0
        self.last_at = now
        self.tap.count(REQUESTS_TOTAL, 1)
        self.tap.count(REQUESTS_IN_FLIGHT, 1)
        if s.recording:
            (<int64_t *>fixed)[0] = self.started_at + s.wall
            (<uint32_t *>(fixed + 8))[0] = self.number
            (<uint32_t *>(fixed + 12))[0] = self.served
            self.told = self.tap.put(TAP_OPEN, self.exchange, self.started_at, fixed, 16, p, head_len)
        self.served += 1

    cdef bint agrees(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        """llhttp sees the same request end at the same place. False: the request has been refused."""
        self.messages_seen = 0
        if self.parser is None:
            self.parser = HttpRequestParser(self)
        try:
            if start == 0 and end == PyBytes_GET_SIZE(data):
                self.parser.feed_data(data)
            else:
                self.parser.feed_data(memoryview(data)[start:end])
        except HttpParserUpgrade:
            # llhttp steps aside at every Upgrade; such requests have no body (scan_request)
            self.parser = None
            self.messages_seen = 1
            if not self.websocket:
                self.keep_alive = False         # what follows may be meant for the other protocol
        except HttpParserError:
            self.refused(400, "the request is malformed", lr_clock())
            return False
        if self.messages_seen != (1 if self.body == NOTHING or self.done_with(end - start) else 0):
            self.refused(400, "the request is ambiguous", lr_clock())
            return False
        return True

    cdef bint done_with(self, Py_ssize_t used):
        """The body ends with the bytes that are being looked at (only LENGTH is not yet counted down then)."""
        return self.body == LENGTH and used >= <Py_ssize_t>S.head_len + self.left

    def on_message_complete(self):
        self.messages_seen += 1

    cdef Py_ssize_t write_head(self, const char *p, Plan plan, int drop) except -1:
        """The head for the provider into the scratch buffer; returns its size."""
        cdef bytes extra = plan.add
        if plan.credential is not None:
            extra = extra + <bytes>plan.credential()
        if <Py_ssize_t>S.head_len + PyBytes_GET_SIZE(extra) + PyBytes_GET_SIZE(plan.prefix) + PyBytes_GET_SIZE(plan.authority) + 256 \
                > self.settings.scratch_size - JOIN_MAX:
            raise MemoryError("the configured header fields are too large")
        return request_head(p, &S, self.settings.scratch, plan.prefix, plan.strip, plan.authority, extra,
                            drop | plan.drop | 1 << OURS, plan.replaced, self.websocket)

    # --- the way out --------------------------------------------------------------------------------------------

    cdef void go(self, Py_ssize_t head, const char *p, Py_ssize_t n, bytes rest, int64_t now) except *:
        """Send the head in scratch[:head] and a first piece (p[:n] or rest), on a free connection or when there is one."""
        cdef Upstream u = self.plan.pool.take(now)
        cdef char *scratch = self.settings.scratch
        cdef bytes first
        if u is None:
            self.head = PyBytes_FromStringAndSize(scratch, head)
            self.queued = []
            if n:
                rest = PyBytes_FromStringAndSize(p, n)
            if rest is not None:
                self.queued.append(rest)
                if PyBytes_GET_SIZE(rest) > PENDING_MAX:
                    self.hold(HOLD_CONNECT)
            self.move(CONNECTING)
            self.deadline = 0
            self.plan.pool.connect(self)
            return
        self.upstream = u
        u.owner = self
        self.move(SENDING)
        self.attempt(now)
        self.written = True
        if n and n <= JOIN_MAX:
            memcpy(scratch + head, p, n)
            u.send(PyBytes_FromStringAndSize(scratch, head + n))
        else:
            first = PyBytes_FromStringAndSize(scratch, head)
            if n:
                u.send_two(first, p, n)
            elif rest is not None:
                u.send_two(first, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
            else:
                u.send(first)
        if self.body == NOTHING:
            self.sent(now)

    def connected(self, Upstream u):
        """A connection is there; called by the pool for one that waits."""
        cdef int64_t now = lr_clock()
        self.upstream = u
        u.owner = self
        self.move(SENDING)
        self.attempt(now)
        self.written = True
        pieces = [self.head, *self.queued]
        self.head = None
        self.queued = None
        self.last_at = now
        u.send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self.release(HOLD_CONNECT)
        if self.body == NOTHING:
            self.sent(now)

    def wants_connection(self):
        """Still waits for a connection."""
        return self.state == CONNECTING

    def connect_failed(self, int status, str message, bint timed_out):
        """No connection could be made: no byte of the request has left the process."""
        cdef int64_t now = lr_clock()
        self.head = None
        self.queued = None
        self.release(HOLD_CONNECT)
        self.attempts += 1
        self.tell_attempt(now, 0, 0, False)
        self.note(TAP_ATTEMPT_FAILED, message, now)
        self.gateway(status, message, TIMEOUT if timed_out else UPSTREAM_ERROR, now)

    cdef void attempt(self, int64_t now) except *:
        cdef Upstream u = self.upstream
        self.attempts += 1
        u.begin(self)
        if self.write_paused:
            u.reading_paused = True
            u.transport.pause_reading()
        # the clock anew: what has gone by since the request came is the proxy's own time
        self.tell_attempt(lr_clock(), u.connect_us if u.served == 1 else 0, u.tls_us if u.served == 1 else 0, u.served > 1)

    cdef void tell_attempt(self, int64_t now, uint32_t connect_us, uint32_t tls_us, bint reused):
        cdef char[12] fixed
        if not self.told:
            return
        (<uint32_t *>fixed)[0] = <uint32_t>(self.attempts | (reused << 16))
        (<uint32_t *>(fixed + 4))[0] = connect_us
        (<uint32_t *>(fixed + 8))[0] = tls_us
        self.tap.put(TAP_ATTEMPT, self.exchange, now, fixed, 12, PyBytes_AS_STRING(self.plan.tag), PyBytes_GET_SIZE(self.plan.tag))

    cdef void sent(self, int64_t now) except *:
        """The last byte of the request, which had come at `now`, is with the transport."""
        if self.received_at == 0:
            self.received_at = now
        self.sent_at = lr_clock()
        if self.state == SENDING:
            self.move(AWAITING_HEAD)

    cdef Py_ssize_t body_part(self, bytes data, Py_ssize_t start, list out, int64_t now) except -2:
        """The request body's bytes in data from `start`: told to the tap, and into `out` framed for the provider.
        Returns the offset behind them, or -1 where they break the rules."""
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t at = start
        cdef Py_ssize_t end
        if self.body == LENGTH:
            end = start + min(self.left, n - start)
            self.left -= end - start
            self.request_bytes += end - start
            self.tell(TAP_REQUEST_BODY, p + start, end - start, now)
            out.append(data if start == 0 and end == n else data[start:end])
            if self.left == 0:
                self.body = NOTHING
            return end
        end = rechunk(&self.chunks, data, start, out, &self.settings.limits, self, TAP_REQUEST_BODY, now, True)
        if end < 0:
            return -1
        self.request_bytes = self.chunks.total
        if self.request_bytes > <uint64_t>self.settings.limits.body_bytes:
            self.body_too_large(now)
            return end
        if chunks_done(&self.chunks):
            self.body = NOTHING
        return end

    cdef void body_too_large(self, int64_t now) except *:
        self.abandon()
        self.refused(413, "the request body is larger than limits.body_bytes allows", now)

    cdef void body_piece(self, bytes data, int64_t now) except *:
        """More of the request body."""
        cdef list out = []
        cdef Py_ssize_t end
        cdef bytes piece
        self.last_at = now
        end = self.body_part(data, 0, out, now)
        if self.state >= LINGERING:
            return
        if end < 0 or not self.body_agrees(data, end):
            self.abandon()
            if self.answered:
                self.finish(PROXY_ERROR, "the request body is malformed", now)
                self.transport.abort()
            else:
                self.refused(400, "the request body is malformed", now)
            return
        if out and self.state != LOCAL:
            piece = <bytes>out[0] if len(out) == 1 else b"".join(out)
            if self.state == CONNECTING:
                self.queued.append(piece)
                self.hold(HOLD_CONNECT)
            elif self.upstream is not None:
                self.upstream.send(piece)
        if self.body == NOTHING:
            self.received_at = now
            if self.upstream is not None:
                self.sent(now)
            if end < PyBytes_GET_SIZE(data):
                self.pending = data[end:]
                if PyBytes_GET_SIZE(self.pending) > PENDING_MAX:
                    self.hold(HOLD_PIPELINE)

    cdef bint body_agrees(self, bytes data, Py_ssize_t end) except -1:
        try:
            self.parser.feed_data(data if end == PyBytes_GET_SIZE(data) else memoryview(data)[:end])
        except HttpParserError:
            return False
        return self.messages_seen == (1 if self.body == NOTHING else 0)

    cdef void send(self, bytes data) except *:
        """Bytes to the client. Straight to the socket while the transport holds nothing back: uvloop's own write
        costs as much as the system call (benchmarks/README.md); what the socket does not take goes the usual way."""
        cdef Py_ssize_t n
        if self.buffered and self.transport.get_write_buffer_size() == 0:
            self.buffered = False
        if self.fd >= 0 and not self.buffered:
            n = lr_send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if n == PyBytes_GET_SIZE(data):
                return
            if n > 0:
                data = data[n:]
        self.buffered = True
        self.write(data)

    cdef void send_all(self, list pieces) except *:
        self.send(<bytes>pieces[0] if len(pieces) == 1 else b"".join(pieces))

    # --- ends ---------------------------------------------------------------------------------------------------

    cdef void refused(self, int status, str message, int64_t now) except *:
        """Answer an error of our own and close: the client's framing may be in doubt."""
        if self.state >= LINGERING:
            return
        self.tap.count(REJECTED_TOTAL, 1)
        if self.exchange == 0:
            self.method = b""
            self.path = b""
        raw = self.error(status, message, False, True)
        self.keep_alive = False
        self.local_answer(raw, status, PROXY_ERROR, message, now)

    def answer(self, bytes raw, int status, *, bint close=False, str why=""):
        """Give the client an answer of our own: the whole of it, head and body."""
        if close:
            self.keep_alive = False
        self.local_answer(raw, status, OK if status < 400 else PROXY_ERROR, why, lr_clock())

    def gateway(self, int status, str message, int state, int64_t now=0):
        """The provider failed and nothing has been answered yet: say so."""
        if self.body != NOTHING:
            self.keep_alive = False
        self.local_answer(self.error(status, message, self.written, not self.keep_alive), status, state, message, now or lr_clock())

    cdef void local_answer(self, bytes raw, int status, int state, str why, int64_t now) except *:
        if self.transport.is_closing():
            self.finish(CLIENT_CANCELLED, "the client closed the connection", now)
            return
        if self.body != NOTHING:
            self.keep_alive = False
        self.status = status
        self.response_bytes = 0
        self.answered = True
        self.tell(TAP_LOCAL_ANSWER, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), now)
        self.send(raw)
        self.finish(state, why, now)
        self.next_request(now)

    cdef void finish(self, int state, str why, int64_t now) except *:
        """The exchange has ended: its last event, and all of it forgotten."""
        cdef char[48] fixed
        cdef bytes text
        cdef int klass
        if self.exchange:
            self.tap.count(REQUESTS_IN_FLIGHT, -1)
            if self.state == TUNNEL:
                self.tap.count(TUNNELS_OPEN, -1)
            klass = self.status // 100
            if 2 <= klass <= 5:
                self.tap.count(RESPONSES + klass, 1)
            if self.told:
                text = why.encode()
                (<uint64_t *>fixed)[0] = <uint64_t>(state | (self.written << 8))
                (<uint64_t *>(fixed + 8))[0] = self.request_bytes
                (<uint64_t *>(fixed + 16))[0] = self.response_bytes
                (<uint64_t *>(fixed + 24))[0] = self.lost
                (<int64_t *>(fixed + 32))[0] = self.received_at
                (<int64_t *>(fixed + 40))[0] = self.sent_at
                self.tap.put(TAP_CLOSE, self.exchange, lr_clock(), fixed, 48, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        self.exchange = 0
        self.told = False
        self.upstream = None
        self.plan = None

    cdef void next_request(self, int64_t now) except *:
        """After an answer: wait for the next request, take the one that waits, or close."""
        cdef bytes data
        if not self.keep_alive or self.settings.draining or self.body != NOTHING:
            self.linger(now)
            return
        self.move(IDLE)
        self.deadline = now + self.settings.keepalive_timeout
        self.searched = 0
        if self.pending is not None and not self.looping:
            data = self.pending
            self.pending = None
            self.started_at = now
            self.take(data, now)
            if self.half_closed and self.state < LINGERING and (self.state == RECEIVING_HEAD or self.body != NOTHING):
                # what is missing of this request can never come
                self.abandon()
                self.finish(CLIENT_CANCELLED, "the client closed the connection before its request was complete", now)
                self.state = CLOSED
                self.transport.close()
            if self.pending is None or self.state == RECEIVING_HEAD:
                self.release(HOLD_PIPELINE)         # what this request still needs must be read
            if self.state > IDLE:
                return
        if self.pending is None:
            self.release(HOLD_PIPELINE)
            if self.half_closed and self.state == IDLE:
                self.transport.close()

    cdef void linger(self, int64_t now) except *:
        """Close so that the answer arrives: shut our side, read what the client still sends, then close for good.
        (Closing with unread bytes makes the kernel reset the connection, and the client may lose the answer.)"""
        self.move(LINGERING)
        self.pending = None
        self.body = NOTHING
        self.deadline = now + LINGER_NS
        self.discarded = 0
        if self.half_closed or not self.transport.can_write_eof():
            self.transport.close()
            self.deadline = now + FLUSH_NS
            return
        self.transport.write_eof()
        self.held = 0
        self.transport.resume_reading()

    cdef void abandon(self):
        """Let go of the provider's connection, which is in the middle of something."""
        cdef Upstream u = self.upstream
        self.upstream = None
        if u is not None:
            u.drop()
        elif self.state == CONNECTING and self.plan is not None:
            self.plan.pool.forget(self)
        self.head = None
        self.queued = None
        self.release(HOLD_UPSTREAM | HOLD_CONNECT)      # whom it waited for is gone; the next request must be read

    def cancel(self, str why, int64_t now=0):
        """The client has gone: the provider must know at once (it bills what it generates)."""
        self.abandon()
        self.finish(CLIENT_CANCELLED, why, now or lr_clock())
        self.move(CLOSED)
        self.transport.abort()

    def cut(self, int state, str why):
        """The answer cannot be completed: the client must see that."""
        cdef int64_t now = lr_clock()
        self.finish(state, why, now)
        self.pending = None
        self.body = NOTHING
        self.move(LINGERING)
        self.deadline = now + FLUSH_NS
        if self.minor == 0:
            self.reset()                    # without framing, a FIN would look like the end
        else:
            self.transport.close()

    def end_tunnel(self, int state, str why, int64_t now=0):
        """The WebSocket is over; both sides close."""
        cdef Upstream u = self.upstream
        self.finish(state, why, now or lr_clock())
        self.move(LINGERING)
        self.deadline = lr_clock() + FLUSH_NS
        if u is not None:
            u.owner = None
            u.transport.close()
            if u.transport.get_write_buffer_size():
                # a provider that has stopped reading must not keep the connection for ever
                self.settings.parting.append((lr_clock() + FLUSH_NS, u.transport))
        self.transport.close()

    def close_idle(self):
        """The server stops: a connection without a request goes at once, a tunnel once nothing has moved in it for a
        while (one turn's longest silence is not known here; Codex connects anew)."""
        if self.state <= RECEIVING_HEAD:
            self.state = CLOSED
            self.transport.close()
        elif self.state == TUNNEL and lr_clock() - self.last_at > QUIET_TUNNEL_NS:
            self.send(GOING_AWAY)
            self.end_tunnel(OK, "the server stopped")

    def shut_down(self):
        """The server's patience is over: what runs is cut off, visibly."""
        if self.state == TUNNEL:
            self.end_tunnel(PROXY_ERROR, "the server stopped")
        elif IDLE < self.state < LINGERING:
            self.abandon()
            self.finish(PROXY_ERROR, "the server stopped", lr_clock())
            self.state = CLOSED
        self.transport.abort()

    def bug(self, error):
        """Something that must not happen: say it loudly, end this connection alone."""
        self.settings.loop.call_exception_handler({"message": "relay", "exception": error, "protocol": self})
        self.abandon()
        if self.exchange:
            self.finish(PROXY_ERROR, "internal error: " + type(error).__name__, lr_clock())
        self.state = CLOSED
        if self.transport is not None:
            self.transport.abort()

    # --- timers -------------------------------------------------------------------------------------------------

    def check(self, int64_t now):
        """Deadlines, and clients that went away while we were not reading from them."""
        cdef int state = self.state
        try:
            if state == IDLE:
                if now >= self.deadline and self.pending is None:
                    self.transport.close()
                elif self.parser is not None and now - self.last_at >= SPARE_AFTER_NS:
                    # thousands of idle connections: what the next request can make anew is not kept
                    self.parser = self.last_plan = self.path = self.method = None
            elif state == RECEIVING_HEAD:
                if now >= self.deadline:
                    self.refused(408, "the request head did not arrive in time (limits.head_timeout_secs)", now)
            elif state == LINGERING:
                # a slow reader of a last answer gets as long as an idle connection
                if now >= self.deadline and (not self.transport.get_write_buffer_size()
                                             or now >= self.deadline + self.settings.keepalive_timeout):
                    self.transport.abort()
            elif state != CLOSED:
                if (self.held or self.half_closed) and self.gone():
                    return
                if state == SENDING and now - self.last_at >= self.plan.idle_ns:
                    self.stalled(now)
                elif state == AWAITING_HEAD and now - self.sent_at >= self.plan.first_byte_ns:
                    self.abandon()
                    self.gateway(504, "the provider did not answer in time (http_client.timeout_secs)", TIMEOUT, now)
                elif state == STREAMING and now - self.last_at >= self.plan.idle_ns:
                    self.abandon()
                    self.cut(TIMEOUT, "the answer stood still for too long (http_client.idle_timeout_secs)")
        except Exception as error:
            self.bug(error)

    cdef void stalled(self, int64_t now) except *:
        """Nothing of the request moved for too long; whose fault it is, the flow control knows."""
        cdef bint provider = self.upstream is not None and self.upstream.write_paused
        self.abandon()
        if provider:
            self.gateway(504, "the provider does not read the request (http_client.idle_timeout_secs)", TIMEOUT, now)
        else:
            self.gateway(408, "the request body did not arrive in time (http_client.idle_timeout_secs)", TIMEOUT, now)

    cdef bint gone(self) except -1:
        """A client that we do not read from has hung up. True: the exchange has been cancelled."""
        cdef int fd
        if self.half_closed:
            return self.half_close()
        fd = self.fd
        if fd < 0:
            return False
        if not lr_hung_up(fd):
            # its FIN may stand behind bytes for which there is no room
            if lr_clock() - self.last_at < SECOND or not self.vanished():
                return False
            self.cancel("the client closed the connection", lr_clock())
            return True
        if self.body == NOTHING:
            self.half_closed = True
            return self.half_close()        # a FIN behind a whole request: it may still want its answer
        self.cancel("the client closed the connection", lr_clock())
        return True

    # --- the tap ------------------------------------------------------------------------------------------------

    cdef void tell(self, int kind, const char *p, Py_ssize_t n, int64_t now) noexcept:
        """A piece to the tap, in parts where it is larger than the ring likes."""
        cdef Py_ssize_t part
        if not self.told:
            return
        while n > 0:
            part = min(n, 1 << 18)
            if not self.tap.put(kind, self.exchange, now, p, part, NULL, 0):
                self.lost += part
            p += part
            n -= part

    def note(self, int kind, str text, int64_t now):
        raw = text.encode()
        self.tell(kind, PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), now)

    # --- rare things, in lunaroute/proxy/downstream.py ------------------------------------------------------------

    def error(self, int status, str message, bint written, bint close):
        raise NotImplementedError

    def half_close(self):
        raise NotImplementedError

    def vanished(self):
        raise NotImplementedError

    def reset(self):
        raise NotImplementedError

    def handshake(self, list fields, int status):
        raise NotImplementedError

    def __repr__(self):
        return f"<Downstream {self.number} {STATES[self.state]} exchange {self.exchange}>"


cdef Py_ssize_t rechunk(Chunks *c, bytes data, Py_ssize_t start, list out, const Limits *limits, Downstream owner,
                        int kind, int64_t now, bint framed) except -2:
    """Decode chunked bytes of data from `start`; payload to the tap, and to `out` with our own framing (or none).

    A piece of whole chunks whose size lines read as we would write them goes as it is: the same object, no copy.
    Returns the offset behind what belongs to the message, -1 where the bytes break the rules (`out` then has what came
    before that).
    """
    cdef Span[SPANS] spans
    cdef const char *p = PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t end = start
    cdef Py_ssize_t got
    cdef int used, k
    cdef bint between = chunks_between(c)
    cdef Chunks before = c[0]
    cdef list parts
    c.plain = True
    got = chunks_feed(c, p + start, n - start, spans, SPANS, &used, limits)
    if used <= FEW and (got < 0 or start + got == n or chunks_done(c)):
        for k in range(used):
            owner.tell(kind, p + start + spans[k].start, spans[k].size, now)
        parts = None
    else:
        # chunks may be as small as a byte, and an event or an object for each costs a hundred times that
        while got >= 0 and end + got < n and not chunks_done(c):
            end += got
            got = chunks_feed(c, p + end, n - end, spans, SPANS, &used, limits)
        parts = [gathered(&before, p + start, n - start, c.total - before.total, limits)]
        owner.tell(kind, PyBytes_AS_STRING(<bytes>parts[0]), PyBytes_GET_SIZE(<bytes>parts[0]), now)
    end = end + got if got >= 0 else -1
    if end >= 0 and framed and between and c.plain and chunks_between(c):
        if end > start:
            out.append(data if start == 0 and end == n else data[start:end])
        return end
    if parts is None:
        parts = [PyBytes_FromStringAndSize(p + start + spans[k].start, spans[k].size) for k in range(used)]
    for part in parts:
        if framed and part:
            out.append(b"%x\r\n" % len(part))
        out.append(part)
        if framed and part:
            out.append(b"\r\n")
    if end >= 0 and framed and chunks_done(c):
        out.append(b"0\r\n\r\n")
    return end


cdef bytes gathered(Chunks *c, const char *p, Py_ssize_t n, Py_ssize_t total, const Limits *limits):
    """The `total` bytes of payload in the chunks at p[0:n], decoded once more."""
    cdef Span[SPANS] spans
    cdef bytes whole = PyBytes_FromStringAndSize(NULL, total)
    cdef char *to = PyBytes_AS_STRING(whole)
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t got
    cdef int used, k
    while done < total:
        got = chunks_feed(c, p + at, n - at, spans, SPANS, &used, limits)
        for k in range(used):
            memcpy(to + done, p + at + spans[k].start, spans[k].size)
            done += spans[k].size
        if got < 0:
            break
        at += got
    return whole


cdef class Upstream:
    """A connection to a provider: at most one exchange at a time, then back to the pool."""

    def __cinit__(self, Pool pool, Tls tls=None):
        self.tls = tls
        self.pool = pool
        self.settings = pool.settings
        self.fd = -1

    def __init__(self, Pool pool, Tls tls=None):
        pass

    # --- asyncio's callbacks ------------------------------------------------------------------------------------

    def connection_made(self, transport):
        self.transport = transport
        self.write = transport.write
        self.fd = transport.get_extra_info("socket").fileno()
        self.pool.opened += 1
        self.settings.tap.count(UPSTREAM_OPEN, 1)
        self.settings.tap.count(UPSTREAM_CONNECTS, 1)
        if self.tls is not None:
            self.shake(None)

    cdef void shake(self, bytes data) except *:
        """The TLS handshake, one step. `secured` gets its result: the pool waits for it."""
        cdef bytes out
        cdef object failure = None
        try:
            self.tls.shake(data)
        except Exception as error:
            failure = error
        out = self.tls.left()
        if out is not None:
            self.write(out)
        if failure is not None:
            if not self.secured.done():
                self.secured.set_exception(failure)
            self.transport.close()
        elif self.tls.ready:
            self.secured.set_result(None)

    cdef bytes opened(self, bytes data):
        """Plaintext of what came; None where nothing of it is for the exchange."""
        cdef bytes out
        if not self.tls.ready:
            self.shake(data)
            return None
        data = self.tls.decrypt(data)
        out = self.tls.left()
        if out is not None:
            self.send_raw(out)
        return data if data else None

    def took(self, uint32_t connect_us, uint32_t tls_us):
        """How long the connecting took, microseconds."""
        self.connect_us = connect_us
        self.tls_us = tls_us

    def data_received(self, bytes data):
        cdef Downstream owner = self.owner
        cdef int64_t now
        if self.tls is not None:
            try:
                data = self.opened(data)
            except Exception as error:
                if owner is not None:
                    self.broken("the TLS connection to the provider broke", 502, UPSTREAM_ERROR, lr_clock())
                else:
                    self.drop()
                return
            if self.tls.closed:
                self.reusable = False
            if data is None:
                self.ended()
                return
        if owner is None:
            self.drop()                 # nobody asked: what this is can only be guessed (F7)
            return
        now = lr_clock()
        owner.last_at = now
        try:
            if owner.state == TUNNEL:
                owner.response_bytes += PyBytes_GET_SIZE(data)
                owner.tell(TAP_SERVER_FRAMES, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now)
                owner.send(data)
            else:
                self.answer(data, now)
            self.ended()
        except Exception as error:
            owner.bug(error)
            self.drop()

    cdef void ended(self) except *:
        """close_notify is the end, whether or not a FIN follows: many servers wait for ours first."""
        if self.tls is not None and self.tls.closed and not self.lost:
            self.fd = -1
            self.transport.abort()

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        cdef Downstream owner = self.owner
        cdef int64_t now = lr_clock()
        self.lost = True
        self.fd = -1
        self.pool.opened -= 1
        self.settings.tap.count(UPSTREAM_OPEN, -1)
        self.parser = None
        if self.secured is not None and not self.secured.done():
            self.secured.set_exception(exc or ConnectionResetError("closed during the TLS handshake"))
            return
        if owner is None:
            if self in self.pool.idle:
                self.pool.idle.remove(self)
                self.settings.tap.count(UPSTREAM_IDLE, -1)
            self.pool.lost(self)
            return
        try:
            if owner.state == TUNNEL:
                owner.end_tunnel(OK if exc is None else UPSTREAM_ERROR, "the provider closed the tunnel", now)
            elif self.head_done and self.body == UNTIL_CLOSE and exc is None and (self.tls is None or self.tls.closed):
                self.reusable = False
                if self.rechunk:
                    owner.send(b"0\r\n\r\n")
                self.complete(now)
            else:
                self.broken("the provider closed the connection before its answer was complete" if self.head_done
                            else "the provider closed the connection without an answer", 502, UPSTREAM_ERROR, now)
        except Exception as error:
            owner.bug(error)

    # --- flow control -------------------------------------------------------------------------------------------

    def pause_writing(self):
        self.write_paused = True
        if self.owner is not None:
            self.owner.hold(HOLD_UPSTREAM)

    def resume_writing(self):
        self.write_paused = False
        if self.owner is not None:
            self.owner.last_at = lr_clock()
            self.owner.release(HOLD_UPSTREAM)

    cdef void send(self, bytes data) except *:
        """Bytes to the provider."""
        self.send_raw(data if self.tls is None else self.tls.encrypt(data))

    cdef void send_raw(self, bytes data) except *:
        """Straight to the socket while the transport holds nothing back (see Downstream.send)."""
        cdef Py_ssize_t n
        if self.buffered and self.transport.get_write_buffer_size() == 0:
            self.buffered = False
        if self.fd >= 0 and not self.buffered:
            n = lr_send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
            if n == PyBytes_GET_SIZE(data):
                return
            if n > 0:
                data = data[n:]
        self.buffered = True
        if not self.lost:
            self.write(data)

    cdef void send_two(self, bytes first, const char *p, Py_ssize_t n) except *:
        """A head and a large piece behind it, in one system call."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(first)
        cdef Py_ssize_t done = 0
        if self.tls is not None:
            self.send(first + PyBytes_FromStringAndSize(p, n))
            return
        if self.buffered and self.transport.get_write_buffer_size() == 0:
            self.buffered = False
        if self.fd >= 0 and not self.buffered:
            done = max(0, lr_send_two(self.fd, PyBytes_AS_STRING(first), size, p, n))
            if done == size + n:
                return
        self.buffered = True
        if self.lost:
            return
        if done < size:
            self.transport.writelines((first[done:], PyBytes_FromStringAndSize(p, n)))
        else:
            self.write(PyBytes_FromStringAndSize(p + done - size, n - done + size))

    # --- answers ------------------------------------------------------------------------------------------------

    cdef void begin(self, Downstream owner):
        """A new exchange on this connection."""
        self.served += 1
        self.pending = None
        self.searched = 0
        self.head_done = False
        self.interim = 0
        self.body = NOTHING
        self.reusable = True
        self.messages_seen = 0

    cdef void answer(self, bytes data, int64_t now) except *:
        cdef Downstream owner = self.owner
        cdef Py_ssize_t n, at, end
        cdef list out
        if self.head_done:
            if self.body == CHUNKED and self.rechunk and self.straight(data, now):
                return
            out = []
            at = self.body_part(data, 0, out, now)
            if at < 0 or not self.feed(data, 0, at):
                self.spoiled(out, now)
                return
            n = PyBytes_GET_SIZE(data)
        else:
            if self.pending is not None:
                data = self.pending + data
                self.pending = None
            out = []
            n = PyBytes_GET_SIZE(data)
            at = 0
            while at < n and not self.head_done:
                if self.searched > RESCAN_MAX and head_end(PyBytes_AS_STRING(data) + at, n - at, self.searched) < 0:
                    self.wait_for_head(data, at, out, now)
                    return
                at = self.answer_head(data, at, now, out)
                if at < 0:
                    return
                self.searched = 0
        if out:
            owner.send_all(out)
        if self.head_done and self.body == NOTHING:
            if at < n:
                self.reusable = False           # bytes beyond the answer
            self.complete(now)

    cdef bint straight(self, bytes data, int64_t now) except -1:
        """A piece that is one or a few whole chunks, with size lines as we would write them, and not the last: it goes as
        it is. llhttp need not see it: it stands between two chunks before and after."""
        cdef Chunks trial
        cdef Span[4] spans
        cdef int used, k
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Downstream owner = self.owner
        if not chunks_between(&self.chunks):
            return False
        trial = self.chunks
        trial.plain = True
        if chunks_feed(&trial, p, n, spans, 4, &used, &self.settings.limits) != n or not trial.plain \
                or not chunks_between(&trial) or chunks_done(&trial):
            return False
        self.chunks = trial
        owner.response_bytes = trial.total
        owner.send(data)
        for k in range(used):
            owner.tell(TAP_RESPONSE_BODY, p + spans[k].start, spans[k].size, now)
        return True

    cdef void wait_for_head(self, bytes data, Py_ssize_t at, list out, int64_t now) except *:
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data) - at
        if n > self.settings.limits.head_bytes:
            self.broken("the provider's answer head is larger than limits.head_bytes", 502, UPSTREAM_ERROR, now)
            return
        self.pending = data[at:] if at else data
        self.searched = n
        if out:
            self.owner.send(b"".join(out))

    cdef Py_ssize_t answer_head(self, bytes data, Py_ssize_t start, int64_t now, list out) except -2:
        """One head of an answer, interim or final, and what data has of its body. Returns the offset behind them, -1
        where the exchange has ended here."""
        cdef Downstream owner = self.owner
        cdef const char *p = PyBytes_AS_STRING(data) + start
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t written, end, size
        cdef bint none
        cdef int scanned = scan_response(p, n - start, &S, &self.settings.limits)
        if scanned == INCOMPLETE:
            self.wait_for_head(data, start, out, now)
            return -1
        size = S.head_len
        if scanned or size > self.settings.limits.head_bytes:
            self.broken((<bytes>S.why).decode() if S.why != NULL else "the provider's answer head is larger than limits.head_bytes",
                        502, UPSTREAM_ERROR, now)
            return -1
        owner.tell(TAP_RESPONSE_HEAD, p, size, now)
        if S.status < 200:
            return self.interim_head(data, start, size, now, out)
        if owner.websocket and not owner.handshake_refused(S.status):
            self.owner = None
            self.drop()
            if owner.pending is not None:
                owner.keep_alive = False        # what the client sent meanwhile was meant for the other protocol
            owner.refuse_upgrade(S.status)
            return -1
        none = owner.is_head or S.status == 204 or S.status == 304
        self.head_done = True
        self.rechunk = owner.minor == 1
        self.left = 0
        if S.minor == 0 or S.close:
            self.reusable = False
        if none or S.content_length == 0:
            self.body = NOTHING
        elif S.chunked:
            self.body = CHUNKED
            chunks_start(&self.chunks)
        elif S.content_length > 0:
            self.body = LENGTH
            self.left = S.content_length
        else:
            self.body = UNTIL_CLOSE
            self.reusable = False
        if owner.minor == 0 and (self.body == CHUNKED or self.body == UNTIL_CLOSE):
            owner.keep_alive = False
        written = self.write_head(p)
        owner.status = S.status
        end = self.first_part(data, start, size, written, now, out)
        owner.answered = True
        if owner.state == SENDING or owner.state == AWAITING_HEAD:
            owner.move(STREAMING)
        if end < 0:
            self.spoiled(out, now)
            return -1
        return end

    cdef void spoiled(self, list out, int64_t now) except *:
        """The answer's body breaks the rules: what came before that still goes, then the client sees a cut (F8)."""
        self.owner.send_all(out)
        self.broken("the provider's answer is malformed", 502, UPSTREAM_ERROR, now)

    cdef Py_ssize_t first_part(self, bytes data, Py_ssize_t start, Py_ssize_t size, Py_ssize_t written, int64_t now,
                               list out) except -2:
        """The rewritten head in scratch[:written] and the first of the body into `out`, if both parsers agree."""
        cdef Py_ssize_t at = start + size
        cdef Py_ssize_t end
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef char *scratch = self.settings.scratch
        cdef Downstream owner = self.owner
        cdef list body
        if self.body == LENGTH:
            # the usual case in one copy: head and body become one buffer
            end = at + min(self.left, PyBytes_GET_SIZE(data) - at)
            if end - at <= JOIN_MAX:
                self.left -= end - at
                owner.response_bytes += end - at
                owner.tell(TAP_RESPONSE_BODY, p + at, end - at, now)
                memcpy(scratch + written, p + at, end - at)
                out.append(PyBytes_FromStringAndSize(scratch, written + end - at))
                if self.left == 0:
                    self.body = NOTHING
                return end if self.feed(data, start, end) else -1
        out.append(PyBytes_FromStringAndSize(scratch, written))
        end = at
        if self.body != NOTHING and at < PyBytes_GET_SIZE(data):
            body = []
            end = self.body_part(data, at, body, now)
            out.extend(body)
            if end < 0:
                return -1
        return end if self.feed(data, start, end) else -1

    cdef bint feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        """llhttp sees the answer end at the same place."""
        if self.parser is None:
            self.parser = HttpResponseParser(self)
        try:
            if start == 0 and end == PyBytes_GET_SIZE(data):
                self.parser.feed_data(data)
            else:
                self.parser.feed_data(memoryview(data)[start:end])
        except HttpParserUpgrade:
            self.parser = None
            return True
        except HttpParserError:
            return False
        if self.owner.is_head:
            self.parser = None          # llhttp cannot know that this answer has no body
            return True
        return self.messages_seen == (1 if self.body == NOTHING else 0)

    def on_message_complete(self):
        self.messages_seen += 1

    cdef Py_ssize_t interim_head(self, bytes data, Py_ssize_t start, Py_ssize_t size, int64_t now, list out) except -2:
        """A 1xx: passed on; a 101 opens the tunnel that the client asked for, and is an error otherwise."""
        cdef Downstream owner = self.owner
        cdef const char *p = PyBytes_AS_STRING(data) + start
        cdef Py_ssize_t written
        self.interim += 1
        if self.interim > INTERIM_MAX or S.chunked or S.content_length > 0:
            self.broken("the provider's interim answers are malformed", 502, UPSTREAM_ERROR, now)
            return -1
        if S.status == 101:
            if not owner.websocket or owner.state != AWAITING_HEAD or not owner.handshake(owner.fields(p), 101):
                self.broken("the provider switched protocols in a way nobody asked for", 502, UPSTREAM_ERROR, now)
                return -1
            return self.open_tunnel(data, start, size, now, out)
        if owner.minor == 1:
            written = self.write_head(p)
            out.append(PyBytes_FromStringAndSize(self.settings.scratch, written))
        self.messages_seen = 0
        if not self.feed_interim(data, start, start + size):
            self.broken("the provider's interim answers are malformed", 502, UPSTREAM_ERROR, now)
            return -1
        self.messages_seen = 0
        return start + size

    cdef bint feed_interim(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        if self.parser is None:
            self.parser = HttpResponseParser(self)
        try:
            self.parser.feed_data(memoryview(data)[start:end])
        except HttpParserError:
            return False
        return self.messages_seen == 1

    cdef Py_ssize_t open_tunnel(self, bytes data, Py_ssize_t start, Py_ssize_t size, int64_t now, list out) except -2:
        cdef Downstream owner = self.owner
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef bytes early
        written = self.write_head(p + start)
        out.append(PyBytes_FromStringAndSize(self.settings.scratch, written))
        self.parser = None
        self.reusable = False
        owner.answered = True
        owner.status = 101
        owner.move(TUNNEL)
        owner.tap.count(TUNNELS_OPEN, 1)
        owner.tap.count(TUNNELS_TOTAL, 1)
        if start + size < n:
            owner.response_bytes += n - start - size
            owner.tell(TAP_SERVER_FRAMES, p + start + size, n - start - size, now)
            out.append(data[start + size:])
        owner.send_all(out)
        early = owner.pending
        owner.pending = None
        owner.release(HOLD_PIPELINE)
        if early is not None:
            owner.data_received(early)
        return -1

    cdef Py_ssize_t write_head(self, const char *p) except -1:
        """The answer's head for the client into the scratch buffer; returns its size."""
        cdef Downstream owner = self.owner
        return answer_head(p, &S, self.settings.scratch, owner.minor == 1, owner.minor == 1 and self.body == UNTIL_CLOSE,
                           not owner.keep_alive or owner.body != NOTHING or self.settings.draining)

    cdef Py_ssize_t body_part(self, bytes data, Py_ssize_t start, list out, int64_t now) except -2:
        """The answer's bytes in data from `start`: to the tap, and into `out` framed for the client. Returns the offset
        behind them, -1 where they break the rules."""
        cdef Downstream owner = self.owner
        cdef const char *p = PyBytes_AS_STRING(data)
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t end
        if self.body == CHUNKED:
            end = rechunk(&self.chunks, data, start, out, &self.settings.limits, owner, TAP_RESPONSE_BODY, now, self.rechunk)
            owner.response_bytes = self.chunks.total
            if chunks_done(&self.chunks):
                self.body = NOTHING
            return end
        end = n
        if self.body == LENGTH:
            end = start + min(self.left, n - start)
            self.left -= end - start
            if self.left == 0:
                self.body = NOTHING
        owner.response_bytes += end - start
        owner.tell(TAP_RESPONSE_BODY, p + start, end - start, now)
        if self.body == UNTIL_CLOSE and self.rechunk:
            out.append(b"%x\r\n" % (end - start))
            out.append(data[start:end] if start else data)
            out.append(b"\r\n")
        else:
            out.append(data if start == 0 and end == n else data[start:end])
        return end

    cdef void complete(self, int64_t now) except *:
        """The whole answer has gone to the client."""
        cdef Downstream owner = self.owner
        cdef bint early = owner.body != NOTHING
        self.owner = None
        if self.reading_paused:
            self.reading_paused = False
            if not self.lost:
                self.transport.resume_reading()
        if self.write_paused or early:
            self.reusable = False
            owner.release(HOLD_UPSTREAM)
        if self.lost:
            pass
        elif self.reusable:
            self.pool.put(self, now)
        else:
            self.drop()
        owner.finish(OK if owner.status < 400 else UPSTREAM_ERROR, "", now)
        owner.next_request(now)

    cdef void broken(self, str why, int status, int state, int64_t now) except *:
        """The attempt failed after bytes of the request may have left: never tried again (security.md M1)."""
        cdef Downstream owner = self.owner
        self.owner = None
        owner.upstream = None
        self.drop()
        owner.release(HOLD_UPSTREAM)
        if owner.answered:
            owner.cut(state, why)
        else:
            owner.note(TAP_ATTEMPT_FAILED, why, now)
            owner.gateway(status, why, state, now)

    cdef void drop(self):
        """Close at once; nothing more is wanted from this connection."""
        self.owner = None
        self.fd = -1
        if not self.lost and self.transport is not None:
            self.transport.abort()

    def close(self):
        """For the pool at shutdown."""
        self.drop()

    def __repr__(self):
        return f"<Upstream {self.served} served, {'lost' if self.lost else 'busy' if self.owner is not None else 'idle'}>"
