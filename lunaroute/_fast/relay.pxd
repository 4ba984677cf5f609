from libc.stdint cimport int64_t, uint32_t, uint64_t

from lunaroute._fast.http1 cimport Chunks, Field, Limits
from lunaroute._fast.ring cimport Writer
from lunaroute._fast.tls cimport Tls

# the states of an exchange, design.md section 6; the table of moves is in relay.pyx
cdef enum State:
    IDLE = 0                # between exchanges
    RECEIVING_HEAD = 1
    CONNECTING = 2          # decided, waiting for a connection
    SENDING = 3             # request bytes are on their way
    AWAITING_HEAD = 4       # request complete, no answer yet
    STREAMING = 5           # the answer has begun
    TUNNEL = 6              # after a 101
    LOCAL = 7               # the proxy itself answers
    LINGERING = 8           # answered and closing: what still comes is read and thrown away
    CLOSED = 9

cdef enum Hold:
    HOLD_PIPELINE = 1       # the next request waits and is large
    HOLD_CONNECT = 2        # body pieces wait for a connection
    HOLD_UPSTREAM = 4       # the provider does not read

cdef enum Framing:
    NOTHING = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3


cdef class Settings:
    cdef readonly object loop
    cdef readonly Writer tap
    cdef public bint recording
    cdef public bint draining
    cdef public object route            # (method, path, signals) -> Plan
    cdef public object gate             # (method, path, fields, signals) -> (signals, drop); raises Reject. Or None
    cdef public object origin_allowed   # (origin or None, fetch_site or None, host) -> bool
    cdef public set live                # Downstream connections
    cdef list parting                   # (deadline, transport) of connections that are closed but not yet flushed
    cdef dict plans
    cdef int plans_version
    cdef bytes host_seen
    cdef Limits limits
    cdef int64_t head_timeout
    cdef int64_t keepalive_timeout
    cdef public int connections_max
    cdef uint64_t exchanges
    cdef uint32_t connections

    cdef char *scratch                  # where heads are written
    cdef Py_ssize_t scratch_size
    cdef int64_t wall                   # CLOCK_REALTIME minus CLOCK_MONOTONIC, ns

    cdef Plan plan(self, bytes method, bytes path, int signals)
    cdef bint host_ok(self, const char *p, uint32_t n)


cdef class Plan:
    cdef public str provider
    cdef public str dialect             # of the path: for our own error answers
    cdef public Pool pool
    cdef public bytes authority         # Host value
    cdef public bytes prefix            # put before what is left of the target
    cdef public int strip               # bytes of the target's beginning that go
    cdef public int drop                # bit per field kind whose credential goes: 1 << Kind
    cdef public object replaced         # frozenset of lower-case field names that configured headers replace, or None
    cdef public bytes add               # field lines that the configuration adds, each with its CRLF
    cdef public object credential       # () -> bytes of field lines, where the credential may change; or None
    cdef public bytes tag               # JSON for the tap's ATTEMPT event
    cdef public bint websocket
    cdef public object local            # (Downstream) -> None: the proxy answers itself; or None
    cdef public int64_t first_byte_ns
    cdef public int64_t idle_ns


cdef class Pool:
    cdef public list idle               # free connections, the freshest last
    cdef public object waiters          # deque of Downstream that wait for a connection
    cdef public Settings settings
    cdef public int max_idle
    cdef public int64_t idle_ns
    cdef public int64_t used_at
    cdef public int64_t opened          # connections alive

    cdef Upstream take(self, int64_t now)
    cdef void put(self, Upstream connection, int64_t now)


cdef class Downstream:
    # server
    cdef readonly Settings settings
    cdef Writer tap
    # connection
    cdef readonly object transport
    cdef object write
    cdef int fd
    cdef bint buffered                  # the transport may hold bytes back
    cdef object parser
    cdef bytes pending
    cdef Py_ssize_t searched
    cdef Py_ssize_t blanks              # bytes of blank lines before the next request
    cdef uint32_t number
    cdef uint32_t served
    cdef int held                       # why the client is not read: bits of Hold
    cdef bint write_paused
    cdef readonly bint half_closed
    cdef readonly bint keep_alive
    cdef readonly bytes websocket_key
    cdef int messages_seen
    cdef public int64_t deadline        # ns; 0 = none
    cdef public str deadline_for
    cdef int64_t discarded
    # exchange
    cdef readonly int state
    cdef readonly uint64_t exchange
    cdef readonly Plan plan
    cdef readonly Upstream upstream
    cdef bytes head                     # rewritten, waiting for a connection
    cdef list queued                    # body pieces that wait for a connection
    cdef readonly bytes method
    cdef readonly bytes path
    cdef Plan last_plan                 # of the request before: the same path mostly follows
    cdef int last_signals
    cdef int plans_version
    cdef int minor
    cdef bint is_head
    cdef readonly bint websocket
    cdef int body
    cdef int64_t left
    cdef Chunks chunks
    cdef bint written                   # request bytes may have left the process
    cdef readonly bint answered         # bytes of the answer have gone to the client
    cdef readonly int status
    cdef int attempts
    cdef bint told                      # the tap has the beginning of this exchange
    cdef bint looping                   # take() is on the stack
    cdef int64_t started_at             # first byte of the head
    cdef int64_t received_at
    cdef int64_t sent_at
    cdef int64_t last_at                # the last byte of either side
    cdef uint64_t request_bytes
    cdef uint64_t response_bytes
    cdef uint64_t lost

    cdef void move(self, int state) except *
    cdef Py_ssize_t blank(self, const char *p, Py_ssize_t at, Py_ssize_t n)
    cdef void wait_for_head(self, bytes data, Py_ssize_t at, int64_t now) except *
    cdef object value(self, const char *p, int index)
    cdef list fields(self, const char *p)
    cdef void begin_record(self, const char *p, Py_ssize_t head_len, int64_t now)
    cdef bint agrees(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cdef bint done_with(self, Py_ssize_t used)
    cdef Py_ssize_t write_head(self, const char *p, Plan plan, int drop) except -1
    cdef void tell_attempt(self, int64_t now, uint32_t connect_us, uint32_t tls_us, bint reused)
    cdef void body_too_large(self, int64_t now) except *
    cdef bint body_agrees(self, bytes data, Py_ssize_t end) except -1
    cdef void local_answer(self, bytes raw, int status, int state, str why, int64_t now) except *
    cdef void abandon(self)
    cdef void stalled(self, int64_t now) except *
    cdef bint gone(self) except -1
    cdef void tell(self, int kind, const char *p, Py_ssize_t n, int64_t now) noexcept
    cdef void take(self, bytes data, int64_t now) except *
    cdef Py_ssize_t begin(self, bytes data, Py_ssize_t start, int64_t now) except -2
    cdef bint same_target(self, const char *p)
    cdef void go(self, Py_ssize_t head, const char *p, Py_ssize_t n, bytes rest, int64_t now) except *
    cdef void attempt(self, int64_t now) except *
    cdef Py_ssize_t body_part(self, bytes data, Py_ssize_t start, list out, int64_t now) except -2
    cdef void body_piece(self, bytes data, int64_t now) except *
    cdef void sent(self, int64_t now) except *
    cdef void refused(self, int status, str message, int64_t now) except *
    cdef void finish(self, int state, str why, int64_t now) except *
    cdef void next_request(self, int64_t now) except *
    cdef void linger(self, int64_t now) except *
    cdef void hold(self, int why)
    cdef void release(self, int why)
    cdef void send(self, bytes data) except *
    cdef void send_all(self, list pieces) except *


cdef class Upstream:
    # connection
    cdef readonly Pool pool
    cdef Settings settings
    cdef readonly object transport
    cdef object write
    cdef object parser
    cdef readonly int fd
    cdef readonly Tls tls               # None: plain HTTP
    cdef public object secured          # future: the handshake is done
    cdef bint buffered
    cdef readonly int64_t idle_since
    cdef readonly uint32_t served
    cdef readonly uint32_t connect_us
    cdef readonly uint32_t tls_us
    cdef bint reading_paused
    cdef bint write_paused
    cdef readonly bint lost
    cdef int messages_seen
    # exchange
    cdef readonly Downstream owner
    cdef bytes pending
    cdef Py_ssize_t searched
    cdef bint head_done
    cdef int interim
    cdef int body
    cdef bint rechunk                   # the client gets our chunks
    cdef int64_t left
    cdef Chunks chunks
    cdef bint reusable

    cdef void begin(self, Downstream owner)
    cdef void answer(self, bytes data, int64_t now) except *
    cdef void wait_for_head(self, bytes data, Py_ssize_t at, list out, int64_t now) except *
    cdef Py_ssize_t first_part(self, bytes data, Py_ssize_t start, Py_ssize_t size, Py_ssize_t written, int64_t now,
                               list out) except -2
    cdef bint feed_interim(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cdef Py_ssize_t interim_head(self, bytes data, Py_ssize_t start, Py_ssize_t size, int64_t now, list out) except -2
    cdef Py_ssize_t open_tunnel(self, bytes data, Py_ssize_t start, Py_ssize_t size, int64_t now, list out) except -2
    cdef Py_ssize_t write_head(self, const char *p) except -1
    cdef Py_ssize_t answer_head(self, bytes data, Py_ssize_t start, int64_t now, list out) except -2
    cdef Py_ssize_t body_part(self, bytes data, Py_ssize_t start, list out, int64_t now) except -2
    cdef bint feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cdef void complete(self, int64_t now) except *
    cdef void spoiled(self, list out, int64_t now) except *
    cdef void broken(self, str why, int status, int state, int64_t now) except *
    cdef void drop(self)
    cdef bint straight(self, bytes data, int64_t now) except -1
    cdef void send(self, bytes data) except *
    cdef void shake(self, bytes data) except *
    cdef void ended(self) except *
    cdef bytes opened(self, bytes data)
    cdef void send_raw(self, bytes data) except *
    cdef void send_two(self, bytes first, const char *p, Py_ssize_t n) except *
