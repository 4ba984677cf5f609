/* The provider of the comparison: answers as the request's x-bench field asks, as fast as one thread can.
 *
 *   upstream PORT
 *   x-bench: json BYTES          one answer of that size (the default: json 2048)
 *   x-bench: stream COUNT GAP    server-sent events, one chunk each, GAP microseconds apart; each carries the clock
 *
 * Knows HTTP/1.1 with Content-Length, keep-alive, no pipelining: what the probe and the proxies here send. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 65536, STREAMS_MAX = 4096, SIZES_MAX = 8 };

struct conn {
    int fd, streaming, writable_wanted;
    size_t have;            /* bytes of the head */
    long left;              /* bytes of the body still to come */
    char *out;              /* what the socket did not take */
    size_t out_size;
    long size, events, gap; /* what was asked for */
    long long next;         /* when the next event is due */
    char head[HEAD_MAX];
};

static int poller, timer;
static struct conn *streams[STREAMS_MAX];
static int stream_count;
static struct { long size; char *bytes; size_t length; } answers[SIZES_MAX];

static const char FIELDS[] =
    "Date: Sun, 23 Nov 2025 10:00:00 GMT\r\n"
    "Content-Type: %s\r\n"
    "%s\r\n"
    "Connection: keep-alive\r\n"
    "anthropic-ratelimit-requests-limit: 4000\r\n"
    "anthropic-ratelimit-requests-remaining: 3999\r\n"
    "anthropic-ratelimit-requests-reset: 2025-11-23T10:00:00Z\r\n"
    "anthropic-ratelimit-input-tokens-limit: 400000\r\n"
    "anthropic-ratelimit-input-tokens-remaining: 398000\r\n"
    "anthropic-ratelimit-input-tokens-reset: 2025-11-23T10:00:00Z\r\n"
    "anthropic-ratelimit-output-tokens-limit: 80000\r\n"
    "anthropic-ratelimit-output-tokens-remaining: 80000\r\n"
    "anthropic-ratelimit-output-tokens-reset: 2025-11-23T10:00:00Z\r\n"
    "anthropic-ratelimit-tokens-limit: 480000\r\n"
    "anthropic-ratelimit-tokens-remaining: 478000\r\n"
    "anthropic-ratelimit-tokens-reset: 2025-11-23T10:00:00Z\r\n"
    "request-id: req_000000000000000000000000\r\n"
    "strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n"
    "anthropic-organization-id: 00000000-0000-4000-8000-000000000000\r\n"
    "x-envoy-upstream-service-time: 1234\r\n"
    "via: 1.1 google\r\n"
    "cf-cache-status: DYNAMIC\r\n"
    "X-Robots-Tag: none\r\n"
    "Server: cloudflare\r\n"
    "CF-RAY: 0000000000000000-FRA\r\n"
    "\r\n";

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void watch(struct conn *c, int writable) {
    struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->writable_wanted = writable;
}

static void forget_stream(struct conn *c) {
    for (int i = 0; c->streaming && i < stream_count; i++)
        if (streams[i] == c) streams[i] = streams[--stream_count];
    c->streaming = 0;
}

static void end(struct conn *c) {
    forget_stream(c);
    close(c->fd);
    free(c->out);
    free(c);
}

static int put(struct conn *c, const char *p, size_t n) {
    if (!c->out_size) {
        ssize_t done = send(c->fd, p, n, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN) return -1;
        if (done > 0) p += done, n -= done;
    }
    if (!n) return 0;
    c->out = realloc(c->out, c->out_size + n);
    memcpy(c->out + c->out_size, p, n);
    c->out_size += n;
    if (!c->writable_wanted) watch(c, 1);
    return 0;
}

static int flush(struct conn *c) {
    ssize_t done = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL);
    if (done < 0) return errno == EAGAIN ? 0 : -1;
    memmove(c->out, c->out + done, c->out_size - done);
    c->out_size -= done;
    if (!c->out_size) watch(c, 0);
    return 0;
}

static int answer_json(struct conn *c) {
    static const char start[] = "{\"id\":\"msg_0\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\","
                                "\"content\":[{\"type\":\"text\",\"text\":\"";
    static const char stop[] = "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":2095,"
                               "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":1024,\"output_tokens\":503}}";
    int i = 0;
    while (i < SIZES_MAX - 1 && answers[i].bytes && answers[i].size != c->size) i++;
    if (!answers[i].bytes || answers[i].size != c->size) {
        char framing[64];
        char *b = malloc(c->size + sizeof FIELDS + 256), *at = b;
        free(answers[i].bytes);
        snprintf(framing, sizeof framing, "Content-Length: %ld", c->size);
        at += sprintf(at, "HTTP/1.1 200 OK\r\n");
        at += sprintf(at, FIELDS, "application/json", framing);
        memset(at, 'w', c->size);
        memcpy(at, start, sizeof start - 1);
        memcpy(at + c->size - (sizeof stop - 1), stop, sizeof stop - 1);
        answers[i].bytes = b;
        answers[i].size = c->size;
        answers[i].length = at + c->size - b;
    }
    return put(c, answers[i].bytes, answers[i].length);
}

static int event(struct conn *c, const char *before) {
    char text[4096], all[4608];
    int n = snprintf(text, sizeof text, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                     "\"delta\":{\"type\":\"text_delta\",\"text\":\" some more words\"},\"clock\":%020lld}\n\n", now());
    int m = snprintf(all, sizeof all, "%s%x\r\n%s\r\n%s", before, n, text, c->events == 1 ? "0\r\n\r\n" : "");
    if (--c->events == 0) forget_stream(c);
    return put(c, all, m);
}

static void arm(void) {
    long long first = 0;
    for (int i = 0; i < stream_count; i++)
        if (!first || streams[i]->next < first) first = streams[i]->next;
    struct itimerspec when = {.it_value = {first / 1000000000, first % 1000000000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int answer(struct conn *c) {
    char head[2048];
    int n;
    if (!c->events) return answer_json(c);
    n = sprintf(head, "HTTP/1.1 200 OK\r\n");
    sprintf(head + n, FIELDS, "text/event-stream; charset=utf-8", "Cache-Control: no-cache\r\nTransfer-Encoding: chunked");
    if (stream_count == STREAMS_MAX) return -1;
    c->streaming = 1;
    streams[stream_count++] = c;
    c->next = now() + c->gap * 1000;
    n = event(c, head);
    arm();
    return n;
}

static void asked(struct conn *c, char *head) {
    char *field;
    c->size = 2048;
    c->events = c->left = 0;
    if ((field = strcasestr(head, "\r\ncontent-length:"))) c->left = atol(field + 17);
    if ((field = strcasestr(head, "\r\nx-bench:"))) {
        field += 10 + strspn(field + 10, " ");
        sscanf(field, "json %ld", &c->size);
        sscanf(field, "stream %ld %ld", &c->events, &c->gap);
    }
}

static int receive(struct conn *c) {
    static char sink[1 << 18];
    for (;;) {
        ssize_t got = c->left ? recv(c->fd, sink, sizeof sink, 0) : recv(c->fd, c->head + c->have, HEAD_MAX - 1 - c->have, 0);
        if (got == 0) return -1;
        if (got < 0) return errno == EAGAIN ? 0 : -1;
        if (c->left) {
            c->left -= got;
        } else {
            c->have += got;
            c->head[c->have] = 0;
            char *body = memmem(c->head, c->have, "\r\n\r\n", 4);
            if (!body) {
                if (c->have == HEAD_MAX - 1) return -1;
                continue;
            }
            body[2] = 0;
            asked(c, c->head);
            c->left -= c->head + c->have - (body + 4);
            c->have = 0;
        }
        if (c->left < 0) return -1;
        if (c->left == 0 && answer(c) < 0) return -1;
    }
}

static void tick(void) {
    unsigned long long times;
    long long t = now();
    if (read(timer, &times, 8) < 0) return;
    for (int i = stream_count - 1; i >= 0; i--) {
        struct conn *c = streams[i];
        if (c->next > t) continue;
        c->next += c->gap * 1000;
        if (c->next < t) c->next = t;
        if (event(c, "") < 0) end(c);
    }
    arm();
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[256], e = {.events = EPOLLIN};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (argc != 2) return fprintf(stderr, "usage: upstream PORT\n"), 2;
    address.sin_port = htons(atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("upstream"), 1;
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    e.data.ptr = &listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    e.data.ptr = &timer;
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1), ticked = 0;
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if ((void *)c == &listener) accept_all(listener);
            else if ((void *)c == &timer) ticked = 1;
            else if ((events[i].events & EPOLLOUT && flush(c) < 0) || (events[i].events & ~EPOLLOUT && receive(c) < 0)) end(c);
        }
        if (ticked) tick(); /* last: it may end connections that stand in `events` */
    }
}
