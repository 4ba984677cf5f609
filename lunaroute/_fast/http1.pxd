from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    FIELDS_MAX = 1024
    INCOMPLETE = -1         # of a scan: the head goes on

cdef enum Kind:
    OTHER = 0
    HOP                 # hop-by-hop (RFC 9110 7.6.1): never forwarded
    HOST
    CONTENT_LENGTH
    TRANSFER_ENCODING
    CONNECTION
    UPGRADE
    EXPECT
    AUTHORIZATION
    API_KEY             # x-api-key
    VENDOR_KEY          # api-key, x-goog-api-key: credentials of vendors that are neither
    ACCOUNT             # chatgpt-account-id
    ORIGIN
    FETCH_SITE
    OURS                # x-lunaroute-*
    FOREIGN             # a credential that belongs to another vendor than the one chosen

# what the head says about whose request it is: bits of Scan.signals (routing/signals.py has the same names)
cdef enum Signal:
    BEARER = 1                  # an Authorization field
    BEARER_ANTHROPIC = 2        # ... of Anthropic's form (sk-ant-)
    BEARER_OPENAI = 4           # ... of OpenAI's form
    BEARER_JWT = 8              # ... a JSON web token (ChatGPT login)
    KEY = 16                    # an x-api-key field
    KEY_ANTHROPIC = 32
    KEY_OPENAI = 64
    ANTHROPIC_FIELD = 128       # anthropic-version, anthropic-beta, ...
    OPENAI_FIELD = 256          # openai-organization, openai-beta, ...
    CHATGPT = 512               # chatgpt-account-id
    AZURE_KEY = 1024            # api-key
    GOOGLE_KEY = 2048           # x-goog-api-key
    WEBSOCKET = 4096            # a well-formed WebSocket handshake
    CONTROL = 8192              # an x-lunaroute-* field
    VENDOR_KEY_ANTHROPIC = 16384    # an api-key or x-goog-api-key field of Anthropic's form

cdef struct Field:
    uint32_t line               # offset of the name
    uint32_t name_len
    uint32_t value              # offset of the value, blanks around it left out
    uint32_t value_len
    uint32_t end                # offset behind the line's CRLF
    int kind

cdef struct Scan:
    const char *why             # what is wrong, for people; NULL when all is well
    uint32_t method_len
    uint32_t target             # offset
    uint32_t target_len
    uint32_t path_len           # of the target, up to the query
    uint32_t head_len           # through the blank line
    int minor                   # HTTP/1.x
    int status                  # answers
    uint32_t reason             # answers: offset of the reason phrase
    uint32_t reason_len
    uint32_t first              # offset of the first field line
    int count
    int signals
    int host                    # field indexes, -1 where there is none
    int length                  # Content-Length
    int coding                  # Transfer-Encoding
    int origin
    int fetch_site
    int64_t content_length      # -1 where there is none
    bint chunked
    bint close                  # Connection: close
    bint keep_alive
    bint upgrade                # Connection: upgrade together with Upgrade
    bint upgrade_websocket      # the Upgrade field says websocket
    bint expect
    Field fields[FIELDS_MAX]

cdef struct Limits:
    uint32_t head_bytes
    uint32_t header_count
    uint32_t url_bytes
    uint32_t trailer_bytes
    uint32_t extension_bytes
    int64_t body_bytes

cdef struct Span:
    uint32_t start
    uint32_t size

cdef struct Chunks:
    int at                      # where the decoder stands
    uint64_t left               # bytes of this chunk still to come
    uint64_t total              # payload bytes so far
    uint32_t digits
    uint32_t extensions         # bytes of extensions so far, whole message
    uint32_t trailers           # bytes of trailers so far
    uint32_t name               # bytes of the current trailer's name
    bint plain                  # every size line so far in this piece is exactly what we would write

cdef Py_ssize_t head_end(const char *p, Py_ssize_t n, Py_ssize_t start) noexcept nogil
cdef int scan_request(const char *p, Py_ssize_t n, Scan *s, const Limits *limits) noexcept nogil
cdef int scan_response(const char *p, Py_ssize_t n, Scan *s, const Limits *limits) noexcept nogil
cdef void chunks_start(Chunks *c) noexcept nogil
cdef bint chunks_done(const Chunks *c) noexcept nogil
cdef bint chunks_between(const Chunks *c) noexcept nogil
cdef Py_ssize_t chunks_feed(Chunks *c, const char *p, Py_ssize_t n, Span *spans, int room, int *used,
                            const Limits *limits) noexcept nogil
cdef bint same(const char *p, uint32_t n, const char *lower, uint32_t size) noexcept nogil
