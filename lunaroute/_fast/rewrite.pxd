from lunaroute._fast.http1 cimport Scan

cdef Py_ssize_t request_head(const char *p, const Scan *s, char *out, bytes prefix, int strip, bytes authority,
                             bytes extra, int drop, object replaced, bint websocket) except -1
cdef Py_ssize_t answer_head(const char *p, const Scan *s, char *out, bint chunks, bint chunked_by_us,
                            bint close) noexcept
