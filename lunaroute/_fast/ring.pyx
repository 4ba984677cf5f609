"""The tap's ring: events from one relay to the observer through shared memory, without a lock and without a wait.

Layout of the shared file: one page of header, then `size` bytes of data. The header's words (8 bytes each):
    0 magic   1 size   2-3 boot id   8 head (writer)   16 tail (reader)   24 the reader sleeps   25 closed
    26 the relay's core + 1   64.. counters
Head and tail sit in cache lines of their own and only ever grow; an offset is position & (size - 1).
A record is 24 bytes of header (payload size u32, kind u16, zero u16, exchange u64, time i64) and the payload, padded to
8. A record never wraps: kind 0 fills the rest of the area. The writer publishes with one release store of head.

No fence between that store and the look at "the reader sleeps": a missed wake-up costs the reader at most its own
timeout, and spares the relay a full barrier per event.

A reader that sleeps is woken when an exchange has ended, or when much is unread; for the rest it comes by itself twice a
second. Woken at a beginning it could be put on the relay's own core, and the first request after a pause waited for it:
a millisecond, where the kernel does not preempt.

Why shared memory (benchmarks/README.md has the figures): a socketpair costs the relay a system call per event.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import mmap
import os
import secrets

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <poll.h>
    #include <sched.h>
    #include <stdint.h>
    #include <sys/mman.h>
    #include <time.h>
    #include <unistd.h>
    #define LOAD(p) __atomic_load_n((const uint64_t *)(p), __ATOMIC_ACQUIRE)
    #define RELAXED(p) __atomic_load_n((const uint64_t *)(p), __ATOMIC_RELAXED)
    #define STORE(p, v) __atomic_store_n((uint64_t *)(p), (uint64_t)(v), __ATOMIC_RELEASE)
    #define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define SWAP(p, v) __atomic_exchange_n((uint64_t *)(p), (uint64_t)(v), __ATOMIC_SEQ_CST)
    static int64_t lr_now(void) {
        struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static int lr_poll(int fd, int ms) {
        struct pollfd p = {fd, POLLIN, 0}; return poll(&p, 1, ms);
    }
    static uint64_t lr_core(void) {
    #ifdef __linux__
        return (uint64_t)(sched_getcpu() + 1);
    #else
        return 0;
    #endif
    }
    static void lr_populate(char *at, uint64_t n) {
    #ifdef __linux__
        madvise(at, n, 23);         /* MADV_POPULATE_WRITE, Linux 5.14; elsewhere pages come one fault at a time */
    #endif
    }
    static void lr_unmap(char *at, uint64_t n) { madvise(at, n, MADV_DONTNEED); }
    static void lr_give_back(char *at, uint64_t n) {
    #ifdef MADV_REMOVE
        madvise(at, n, MADV_REMOVE);
    #else
        madvise(at, n, MADV_DONTNEED);
    #endif
    }
    """
    uint64_t LOAD(const void *p) noexcept nogil
    uint64_t RELAXED(const void *p) noexcept nogil
    void STORE(void *p, uint64_t v) noexcept nogil
    uint64_t SWAP(void *p, uint64_t v) noexcept nogil
    void FENCE() noexcept nogil
    int64_t lr_now() noexcept nogil
    int lr_poll(int fd, int ms) noexcept nogil
    uint64_t lr_core() noexcept nogil
    void lr_unmap(char *at, uint64_t n) noexcept nogil
    void lr_give_back(char *at, uint64_t n) noexcept nogil
    void lr_populate(char *at, uint64_t n) noexcept nogil
    void *c_mmap "mmap"(void *at, size_t n, int prot, int flags, int fd, int64_t off) noexcept nogil
    int c_munmap "munmap"(void *at, size_t n) noexcept nogil
    ssize_t c_write "write"(int fd, const void *p, size_t n) noexcept nogil
    ssize_t c_read "read"(int fd, void *p, size_t n) noexcept nogil
    void *MAP_FAILED
    int PROT_READ, PROT_WRITE, MAP_SHARED

HEADER_BYTES = 4096
cdef enum:
    PAGE = 4096
    RECORD = 24
    HEAD = 64
    TAIL = 128
    SLEEPS = 192
    CLOSED = 200
    CORE = 208
    COUNTERS = 512
    COUNTER_MAX = 64
    # indexes into tap.COUNTERS (tests/test_tap.py compares them)
    TAP_EVENTS = 10
    TAP_DROPPED_EVENTS = 11
    TAP_DROPPED_BYTES = 12
    TAP_DROPPED_EXCHANGES = 13
    OPEN_EVENT = 1
    CLOSE_EVENT = 9
    REWIND_PAST = 1048576
    MUCH = 1048576              # unread bytes for which a sleeping reader is woken before an exchange ends
    # after something was read the reader naps instead of asking for wake-ups: under load the relay pays no system call,
    # and what is read in one go costs less (100 requests a second: 495 us each, with naps of 25 ms 615)
    NAP_MS = 100
    UNMAP_EVERY = 8388608

cdef uint64_t MAGIC = 0x31474E4952524C        # "LRRING1"
cdef int64_t BUSY_NS = 1000000000


def _shared_file(size):
    """A descriptor of anonymous shared memory: memfd where there is one, else an unlinked POSIX object (macOS)."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("lunaroute-tap", os.MFD_CLOEXEC)
    else:
        import _posixshmem

        name = f"/lr-{secrets.token_hex(8)}"
        fd = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
        _posixshmem.shm_unlink(name)
    os.ftruncate(fd, size)
    return fd


cdef char *_map(int fd, uint64_t size) except NULL:
    cdef void *at = c_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if at == MAP_FAILED:
        raise OSError("the tap's shared memory cannot be mapped")
    return <char *>at


cdef class Writer:
    def __cinit__(self, size=64 << 20):
        if size < 65536 or size & (size - 1):
            raise ValueError("the ring's size must be a power of two of at least 64 KiB")
        self.size = size
        self.ring_fd = _shared_file(PAGE + size)
        self.base = _map(self.ring_fd, PAGE + size)
        self.data = self.base + PAGE
        self.reserve = size >> 3
        boot = secrets.token_bytes(6)
        self.boot_id = boot.hex()
        memcpy(self.base + 16, PyBytes_AS_STRING(boot), 6)
        STORE(self.base + 8, size)
        STORE(self.base, MAGIC)
        if hasattr(os, "eventfd"):
            self.wake_fd = self.bell_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.wake_fd, self.bell_fd = os.pipe()
            os.set_blocking(self.wake_fd, False)
            os.set_blocking(self.bell_fd, False)

    def __dealloc__(self):
        if self.base != NULL:
            c_munmap(self.base, PAGE + self.size)
            os.close(self.ring_fd)
            os.close(self.wake_fd)
            if self.bell_fd != self.wake_fd:
                os.close(self.bell_fd)

    cdef void count(self, int counter, int64_t by) noexcept nogil:
        cdef uint64_t *at = <uint64_t *>(self.base + COUNTERS) + counter
        at[0] += by

    cdef void wake(self) noexcept nogil:
        cdef uint64_t one = 1
        if RELAXED(self.base + SLEEPS) and SWAP(self.base + SLEEPS, 0):
            c_write(self.bell_fd, &one, 8)

    cdef int put(self, int kind, uint64_t exchange, int64_t time_ns,
                 const char *a, Py_ssize_t a_size, const char *b, Py_ssize_t b_size) noexcept nogil:
        """Append one event whose payload is a + b. 1, or 0 when there was no room (counted)."""
        cdef uint64_t payload = a_size + b_size
        cdef uint64_t need = (RECORD + payload + 7) & ~<uint64_t>7
        cdef uint64_t offset = self.head & (self.size - 1)
        cdef uint64_t fill = self.size - offset
        cdef uint64_t limit = self.size
        cdef char *at
        # bodies are given up first, beginnings next, ends never before the last byte: what began must be seen to end
        if kind == 2 or kind == 5 or kind == 7 or kind == 8:
            limit -= self.reserve
        elif kind != CLOSE_EVENT:
            limit -= self.reserve >> 2
        if kind == OPEN_EVENT and offset > REWIND_PAST:
            # an empty ring starts again at its first pages: under light load only those are ever touched
            self.tail = LOAD(self.base + TAIL)
            if self.tail == self.head:
                self._rewind(offset, fill)
                offset = 0
                fill = self.size
        if fill < need:
            if self.head + fill + need - self.tail > limit:
                self.tail = LOAD(self.base + TAIL)
                if self.head + fill + need - self.tail > limit:
                    self._drop(kind, payload)
                    return 0
            self._skip(offset, fill)
            offset = 0
        elif self.head + need - self.tail > limit:
            self.tail = LOAD(self.base + TAIL)
            if self.head + need - self.tail > limit:
                self._drop(kind, payload)
                return 0
        at = self.data + offset
        (<uint32_t *>at)[0] = <uint32_t>payload
        (<uint16_t *>(at + 4))[0] = <uint16_t>kind
        (<uint16_t *>(at + 6))[0] = 0
        (<uint64_t *>(at + 8))[0] = exchange
        (<int64_t *>(at + 16))[0] = time_ns
        memcpy(at + RECORD, a, a_size)
        if b_size:
            memcpy(at + RECORD + a_size, b, b_size)
        offset += need
        if offset > self.high:
            self.high = offset
        self.head += need
        self.taken += need
        STORE(self.base + HEAD, self.head)
        self.count(TAP_EVENTS, 1)
        if kind == CLOSE_EVENT:
            STORE(self.base + CORE, lr_core())
            self.wake()
        elif RELAXED(self.base + SLEEPS) and self.head - LOAD(self.base + TAIL) > MUCH:
            self.wake()
        return 1

    cdef void _skip(self, uint64_t offset, uint64_t fill) noexcept nogil:
        # fill is a multiple of 8; where even a record header does not fit, the reader knows by the offset alone
        if fill >= RECORD:
            (<uint32_t *>(self.data + offset))[0] = 0
            (<uint16_t *>(self.data + offset + 4))[0] = 0
        self.head += fill
        STORE(self.base + HEAD, self.head)

    cdef void _rewind(self, uint64_t offset, uint64_t fill) noexcept nogil:
        """Begin an empty ring anew. What was skipped is empty too, so its room is there at once and not only when the
        reader has come by. (The tail is the reader's, but of an empty ring it has nothing left to give back: it cannot
        store another one before it has read what comes now.) The reader may stand before the gap, or look at its mark
        this very moment: it goes on at the tail where that is ahead of it, and looks at the tail after the mark."""
        self._skip(offset, fill)
        self.tail = self.head
        STORE(self.base + TAIL, self.head)
        FENCE()                     # before anything is written over the mark

    cdef void _drop(self, int kind, uint64_t payload) noexcept nogil:
        self.count(TAP_DROPPED_EVENTS, 1)
        self.count(TAP_DROPPED_BYTES, payload)
        if kind == OPEN_EVENT:
            self.count(TAP_DROPPED_EXCHANGES, 1)

    def event(self, int kind, uint64_t exchange, int64_t time_ns, bytes payload):
        return bool(self.put(kind, exchange, time_ns, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), NULL, 0))

    def add(self, int counter, int64_t by=1):
        if not 0 <= counter < COUNTER_MAX:
            raise IndexError("no such counter")
        self.count(counter, by)

    def counter(self, int counter):
        if not 0 <= counter < COUNTER_MAX:
            raise IndexError("no such counter")
        return (<uint64_t *>(self.base + COUNTERS))[counter]

    def used(self):
        return self.head - LOAD(self.base + TAIL)

    @property
    def position(self):
        return self.head

    @property
    def written(self):
        return self.taken

    def idle(self):
        # only the writer may do this: while the ring is empty nobody but the writer touches the data
        if not max(self.high, self.populated) or LOAD(self.base + TAIL) != self.head:
            return False
        offset = self.head & (self.size - 1)
        if offset:
            self._rewind(offset, self.size - offset)
        lr_give_back(self.data, (max(self.high, self.populated) + PAGE - 1) & ~<uint64_t>(PAGE - 1))
        self.high = self.populated = 0
        return True

    def populate(self, uint64_t ahead):
        """Have the next pages there before they are written to: a first touch costs the relay 1.5 us a page."""
        cdef uint64_t start = max(self.high, self.populated) & ~<uint64_t>(PAGE - 1)
        cdef uint64_t size = min(ahead, self.size - start) if start < self.size else 0
        if size:
            self.populated = start + size
            with nogil:
                lr_populate(self.data + start, size)
        return size

    def close(self):
        cdef uint64_t one = 1
        STORE(self.base + CLOSED, 1)
        c_write(self.bell_fd, &one, 8)


cdef class Reader:
    def __cinit__(self, int ring_fd, int wake_fd):
        total = os.fstat(ring_fd).st_size
        self.base = _map(ring_fd, total)
        self.data = self.base + PAGE
        self.size = (<uint64_t *>self.base)[1]
        if (<uint64_t *>self.base)[0] != MAGIC or self.size + PAGE != <uint64_t>total:
            raise ValueError("this is not a tap ring of this version")
        self.wake_fd = wake_fd
        self.boot_id = PyBytes_FromStringAndSize(self.base + 16, 6).hex()
        self.read_at = LOAD(self.base + TAIL)

    def __dealloc__(self):
        if self.base != NULL:
            c_munmap(self.base, PAGE + self.size)

    @property
    def position(self):
        return self.read_at

    @property
    def used_bytes(self):
        # a ring that is begun anew just now has moved both: they must belong together
        cdef uint64_t tail, head
        while True:
            tail = LOAD(self.base + TAIL)
            head = LOAD(self.base + HEAD)
            if LOAD(self.base + TAIL) == tail:
                return head - tail

    @property
    def unread_bytes(self):
        return LOAD(self.base + HEAD) - max(self.read_at, LOAD(self.base + TAIL))

    @property
    def closed(self):
        return bool(LOAD(self.base + CLOSED))

    @property
    def core(self):
        cdef uint64_t core = RELAXED(self.base + CORE)
        return core - 1 if core else None

    def read(self, uint64_t max_bytes=1 << 20):
        cdef uint64_t head = LOAD(self.base + HEAD)
        cdef uint64_t end, offset, fill, tail
        cdef uint32_t payload
        cdef uint16_t kind
        cdef char *at
        cdef list events = []
        self._follow()
        end = self.read_at + max_bytes
        while self.read_at < head and self.read_at < end:
            offset = self.read_at & (self.size - 1)
            fill = self.size - offset
            at = self.data + offset
            payload = (<uint32_t *>at)[0]
            kind = (<uint16_t *>(at + 4))[0]
            if not events:
                FENCE()
                tail = self.read_at
                if self._follow():
                    end += self.read_at - tail      # an empty answer means that there is nothing
                    continue
            if fill < RECORD or kind == 0:
                self.read_at += fill
                end += fill
                continue
            events.append((
                kind,
                (<uint64_t *>(at + 8))[0],
                (<int64_t *>(at + 16))[0],
                PyBytes_FromStringAndSize(at + RECORD, payload),
            ))
            self.read_at += (RECORD + payload + 7) & ~<uint64_t>7
        if events:
            self.busy_at = lr_now()
        return events

    cdef bint _follow(self) noexcept nogil:
        """To the tail, where the writer began an empty ring anew: it is ahead of us only then, and nothing is between."""
        cdef uint64_t tail = LOAD(self.base + TAIL)
        if tail <= self.read_at:
            return False
        self.read_at = tail
        return True

    def release(self, keep_from=None):
        cdef uint64_t upto = self.read_at if keep_from is None else keep_from
        if upto > self.read_at:
            raise ValueError("cannot release what was not read")
        if upto > RELAXED(self.base + TAIL):
            STORE(self.base + TAIL, upto)
            if upto - self.unmapped >= UNMAP_EVERY:
                # the pages stay with the relay; here they would only count as this process's memory
                self.unmapped = upto
                lr_unmap(self.data, self.size)

    def wait(self, double timeout_s):
        cdef uint64_t drained
        cdef int ms = <int>(timeout_s * 1000)
        if LOAD(self.base + HEAD) != self.read_at:
            return True
        if lr_now() - self.busy_at < BUSY_NS:
            with nogil:
                lr_poll(self.wake_fd, min(ms, NAP_MS))      # somebody in this process may ring
                c_read(self.wake_fd, &drained, 8)
            return LOAD(self.base + HEAD) != self.read_at
        SWAP(self.base + SLEEPS, 1)
        if LOAD(self.base + HEAD) == self.read_at and not LOAD(self.base + CLOSED):
            with nogil:
                lr_poll(self.wake_fd, min(ms, 500))
                c_read(self.wake_fd, &drained, 8)
        SWAP(self.base + SLEEPS, 0)
        return LOAD(self.base + HEAD) != self.read_at

    def counters(self, names=None):
        if names is None:
            from lunaroute import tap

            names = tap.COUNTERS
        cdef uint64_t *at = <uint64_t *>(self.base + COUNTERS)
        return {name: at[i] for i, name in enumerate(names)}
